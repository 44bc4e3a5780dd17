package wire

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/logdriver/sink"
)

func TestTLSParameters(t *testing.T) {
	for _, tc := range []struct{ url, err string }{
		{url: "x+tls://host"},
		{url: "x+tls://host?tls-ca=ca.pem&tls-cert=/etc/c.pem&tls-key=k.pem&tls-name=n&tls-min=1.3&tls-insecure=off"},
		{url: "x+tls://host?tls-insecure=on&tls-min=1.2"},
		{url: "x+tls://host?tls-cert=c.pem", err: "belong together"},
		{url: "x+tls://host?tls-key=c.pem", err: "belong together"},
		{url: "x+tls://host?tls-min=1.1", err: "neither 1.2 nor 1.3"},
		{url: "x+tls://host?tls-insecure=yes", err: "neither on nor off"},
		{url: "x+tls://host?tls-insecure=on&tls-ca=ca.pem", err: "leave one out"},
		{url: "x+tls://host?tls-ca=/root/ca.pem", err: "tls-ca"},
		{url: "x+tls://host?tls-ac=ca.pem", err: `did you mean "tls-ca"`},
		{url: "x+tcp://host?tls-ca=ca.pem", err: "TLS is not spoken"},
		{url: "y+tls://host", err: "scheme"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		target, err := ParseTarget(u, sink.Host{Config: "/config"}, Spec{Schemes: map[string]string{"x+tls": "1", "x+tcp": "2"}})
		if tc.err == "" && (err != nil || target.security == nil || target.Addr != "host:1") ||
			tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.url, err, tc.err)
		}
	}
}

func TestAuthoritiesOfTheHost(t *testing.T) {
	ca, err := testcert.New("one of many")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(bundles(), "") {
		etc := t.TempDir()
		if file != "" {
			at := filepath.Join(etc, strings.TrimPrefix(file, "/etc/"))
			if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, ca.PEM, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		pool, err := (&security{host: sink.Host{Etc: etc}}).authorities()
		if file == "" {
			if err == nil || !strings.Contains(err.Error(), "name a file with tls-ca") {
				t.Errorf("none: %v", err)
			}
		} else if err != nil || !pool.Equal(ca.Pool()) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
