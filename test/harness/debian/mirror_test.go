package debian

import (
	"errors"
	"testing"
)

func TestMirrorOf(t *testing.T) {
	for name, c := range map[string]struct {
		targets, want string
	}{
		"security first": {"http://x/security/ bookworm-security Debian Debian-Security\nhttp://x/debian/ bookworm Debian Debian\n", "http://x/debian/"},
		"vendor first":   {"https://y/apt/ stable Vendor Vendor\nhttp://x/debian/ bookworm Debian Debian\n", "http://x/debian/"},
		"no lists yet":   {"http://x/security/ bookworm-security $(ORIGIN) $(LABEL)\nhttp://x/debian/ bookworm $(ORIGIN) $(LABEL)\n", "http://x/debian/"},
		"none":           {"https://y/apt/ stable Vendor Vendor\n", ""},
		"nothing":        {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mirrorOf(c.targets, "bookworm")
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
			if err != nil && !errors.Is(err, errNoMirror) {
				t.Error(err)
			}
		})
	}
}
