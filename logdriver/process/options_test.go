package process

import (
	"errors"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/options"
)

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ opts, key, want string }{
		{"max-record=1k", "max-record", "not within 16384 to 8388608 bytes"},
		{"max-record=big", "max-record", "not a size such as"},
		{"max-line=1", "max-line", "not within 64"},
		{"multiline=perl", "multiline", `"perl" is not one of auto, go, java, node, python`},
		{"multiline=java multiline-start=x", "multiline-start", "multiline is given, too"},
		{"multiline-timeout=1s", "multiline-timeout", "means nothing without multiline or multiline-start"},
		{"multiline=go multiline-timeout=1h", "multiline-timeout", "not within 50ms to 1m0s"},
		{"multiline=go multiline-timeout=1", "multiline-timeout", "not a duration"},
		{"include=(", "include", "not a regular expression (RE2)"},
		{`exclude=(a)\1`, "exclude", "not a regular expression (RE2)"},
		{"exclude=(a{1,100}){1,4}", "exclude", "too costly: it compiles to"},
		{"rate=0", "rate", "not a whole number from 1"},
		{"rate=5/d", "rate", `the unit: "d" is not one of h, m, s`},
		{"rate=5/", "rate", `the unit: "" is not one of h, m, s`},
		{"burst=5", "burst", "means nothing without rate"},
		{"rate=5 burst=-1", "burst", "not a whole number from 1"},
		{"rate=5 rate-mode=wait", "rate-mode", `"wait" is not one of delay, drop`},
		{"parse=xml", "parse", `"xml" is not one of auto, json, logfmt`},
		{"parse-keep=true", "parse-keep", "means nothing without parse"},
		{"parse=json parse-keep=yes", "parse-keep", `"yes" is not one of false, true`},
		{"redact=email,phone", "redact", `"phone" is not one of all, bearer, cloud-keys, email, url-passwords`},
		{"redact=all,phone", "redact", `"phone" is not one of all, bearer, cloud-keys, email, url-passwords`},
		{"redact.=x", "redact.", "its name is not"},
		{"redact.a/b=x", "redact.a/b", "its name is not"},
		{"redact.card=[", "redact.card", "not a regular expression"},
		{"utf8=drop", "utf8", `"drop" is not one of escape, pass, replace`},
	} {
		given := map[string]string{}
		for o := range strings.FieldsSeq(tc.opts) {
			k, v, _ := strings.Cut(o, "=")
			given[k] = v
		}
		_, err := Parse("log-opt", given)
		var value *options.ValueError
		if !errors.As(err, &value) || value.Key != tc.key || value.Value != given[tc.key] || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s: %s", tc.opts, err, tc.key, tc.want)
		}
	}
}

func TestNothingToDoIsNoState(t *testing.T) {
	for opts, want := range map[string]bool{"": false, "tag=x": false, "max-record=64k": false, "multiline=": false, "utf8=pass": false, "exclude=x": true, "parse=json": true} {
		s := spec(t, strings.Fields(opts)...)
		if got := s.New(&Stats{}) != nil; got != want {
			t.Errorf("%q: %v", opts, got)
		}
	}
	if s := spec(t, "max-record=64k"); s.MaxRecord != 64<<10 {
		t.Errorf("%d", s.MaxRecord)
	}
}

func TestSettle(t *testing.T) {
	given := map[string]string{"multiline": "java", "multiline-start": "x", "rate": "1"}
	Settle(given, map[string]string{"multiline-start": "x"})
	if len(given) != 2 || given["multiline"] != "" {
		t.Errorf("%v", given)
	}
	given = map[string]string{"rate": "", "burst": "200", "rate-mode": "delay", "parse-keep": "true"}
	Settle(given, map[string]string{"rate": "", "rate-mode": "delay"})
	if given["burst"] != "" || given["parse-keep"] != "" || given["rate-mode"] != "delay" {
		t.Errorf("after rate was switched off: %v", given)
	}
}

// Whoever lists the options finds all that a table needs.
func TestOptionsAreDocumented(t *testing.T) {
	seen := map[string]bool{}
	for i, o := range Options() {
		if o.Name != Names()[i] || seen[o.Name] || o.Type == "" || !strings.HasSuffix(o.Doc, ".") {
			t.Errorf("%+v", o)
		}
		seen[o.Name] = true
	}
}
