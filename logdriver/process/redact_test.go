package process

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/logdriver/record"
)

func TestRedaction(t *testing.T) {
	token := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"
	for _, tc := range []struct{ name, opts, in, want string }{
		{"bearer", "redact=bearer", "Authorization: Bearer abc.DEF-123_xyz== next", "Authorization: Bearer [redacted:bearer] next"},
		{"any case", "redact=bearer", "a BEARER  12345678 bearer 87654321", "a BEARER  [redacted:bearer] bearer [redacted:bearer]"},
		{"basic", "redact=bearer", "basic dXNlcjpwYXNz", "basic [redacted:bearer]"},
		{"in JSON", "redact=bearer", `{"Authorization":"Bearer abc.DEF-123", "access_token" : "opaque-token", "refresh_token":"x"}`, `{"Authorization":"Bearer [redacted:bearer]", "access_token" : "[redacted:bearer]", "refresh_token":"x"}`},
		{"in JSON in JSON", "redact=bearer", `{"msg":"{\"bearer\":\"opaque-token\"}"}`, `{"msg":"{\"bearer\":\"[redacted:bearer]\"}"}`},
		{"authorization", "redact=bearer", "authorization: Basic YTpi, authorization=failed Authorization: ApiKey a Proxy-Authorization: 0123456789abcdef", "authorization: Basic [redacted:bearer], authorization=failed Authorization: ApiKey [redacted:bearer] Proxy-Authorization: [redacted:bearer]"},
		{"too short", "redact=bearer", "bearer of news, basic idea", "bearer of news, basic idea"},
		{"jwt", "redact=bearer", "token=" + token + ";", "token=[redacted:bearer];"},
		{"not quite", "redact=bearer", "eyJabcdefghijk.x eyJ", "eyJabcdefghijk.x eyJ"},
		{"email", "redact=email", "from eve+x@mail.example.org, <bob@example.com>.", "from [redacted:email], <[redacted:email]>."},
		{"email in a URL", "redact=email", "GET /?mail=eve.x%2Bshop%40example.org&n=%4020 HTTP/1.1", "GET /?mail=[redacted:email]&n=%4020 HTTP/1.1"},
		{"no email", "redact=email", "a@b user@host @x.org x@ a@1.2.3.4 git@host:x", "a@b user@host @x.org x@ a@1.2.3.4 git@host:x"},
		{"aws", "redact=cloud-keys", "AKIAIOSFODNN7EXAMPLE XAKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLE0", "[redacted:cloud-keys] XAKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLE0"},
		{"aws secret", "redact=cloud-keys", "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key=[redacted:cloud-keys]"},
		{"aws secret in JSON", "redact=cloud-keys", `{"aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG"}`, `{"aws_secret_access_key": "[redacted:cloud-keys]","SecretAccessKey":"[redacted:cloud-keys]"}`},
		{"aws secret in ini and YAML", "redact=cloud-keys", "aws_secret_access_key = wJalrXUtnFEMI/K7 AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI/K7 secretAccessKey: 'wJalrXUtnFEMI'", "aws_secret_access_key = [redacted:cloud-keys] AWS_SECRET_ACCESS_KEY: [redacted:cloud-keys] secretAccessKey: '[redacted:cloud-keys]'"},
		{"aws secret, escaped", "redact=cloud-keys", `"{\"aws_secret_access_key\": \"wJalrXUtnFEMI/K7\"}" "SecretAccessKey" => "wJalrXUtnFEMI"`, `"{\"aws_secret_access_key\": \"[redacted:cloud-keys]\"}" "SecretAccessKey" => "[redacted:cloud-keys]"`},
		{"no secret", "redact=cloud-keys", "secret_access_key= , secret_access_key: none it=key", "secret_access_key= , secret_access_key: none it=key"},
		{"google", "redact=cloud-keys", "key=AIza" + strings.Repeat("b", 35), "key=[redacted:cloud-keys]"},
		{"azure", "redact=cloud-keys", "AccountName=a;AccountKey=" + strings.Repeat("k", 86) + "==;x", "AccountName=a;AccountKey=[redacted:cloud-keys];x"},
		{"url", "redact=url-passwords", "postgres://bob:s3c@ret@db/x http://a:b@c http://bob@h http://h:80/@", "postgres://bob:[redacted:url-passwords]@db/x http://a:[redacted:url-passwords]@c http://bob@h http://h:80/@"},
		{"url without a user", "redact=url-passwords", "redis://:pw@h:6379/0 redis://:p\xc3\xa4ss@h", "redis://:[redacted:url-passwords]@h:6379/0 redis://:[redacted:url-passwords]@h"},
		{"url, what ought to be escaped", "redact=url-passwords", "amqp://u:p/w?d#x@y@h/v http://h:80/@a \"http://h:8x/\" @b", "amqp://u:[redacted:url-passwords]@h/v http://h:80/@a \"http://h:8x/\" @b"},
		{"url with escaped slashes", "redact=url-passwords", `{"dsn":"mysql:\/\/u:p@h\/db"}`, `{"dsn":"mysql:\/\/u:[redacted:url-passwords]@h\/db"}`},
		{"own", `redact.card=\d{4}-\d{4}`, "1234-5678 and 1111-2222", "[redacted:card] and [redacted:card]"},
		{"own, a group", `redact.pw=password=(\S+)`, "password=a password=b", "password=[redacted:pw] password=[redacted:pw]"},
		{"own, a group of an alternative", `redact.pw=password=(\S+)|passwd:\S+`, "passwd:a password=b", "[redacted:pw] password=[redacted:pw]"},
		{"own, empty", `redact.e=x*`, "axxb", "a[redacted:e]b"},
		{"all and own", `redact=all redact.n=\d+`, "mail a@b.org 42", "mail [redacted:email] [redacted:n]"},
		{"not UTF-8", `redact.n=\d+`, "\xff12\xfe", "\xff[redacted:n]\xfe"},
	} {
		if got := run(spec(t, strings.Fields(tc.opts)...).New(&Stats{}), tc.in); got[0].Line != tc.want {
			t.Errorf("%s: %q", tc.name, got[0].Line)
		}
	}
}

// Secrets are hidden in fields, in what they are once escapes are resolved.
func TestRedactionOfFields(t *testing.T) {
	var stats Stats
	in := `{"msg":"for a\u0040b.org","url":"http:\/\/u:p@h","n":[1234567],"a@b.org":1}`
	got := run(spec(t, "parse=json", "parse-keep=true", "redact=all", `redact.n=\d{7}`).New(&stats), in)
	want := out{
		Line:   "for [redacted:email]",
		Fields: `url=http://u:[redacted:url-passwords]@h n=[[redacted:n]] [redacted:email]=<1> original={"msg":"[redacted:email]","url":"http:\/\/u:[redacted:url-passwords]@h","n":[[redacted:n]],"[redacted:email]":1}`,
	}
	if d := cmp.Diff([]out{want}, got); d != "" || stats.Redactions.Load() != 4 {
		t.Errorf("%d hidden, %s", stats.Redactions.Load(), d)
	}
}

// Secrets that show only together with their name, or only in the line as it was
// written, or only without escapes, are hidden wherever they would be sent.
func TestParsingHidesNoLess(t *testing.T) {
	const pw = "redact.pw=password=(\\S+)"
	for _, tc := range []struct{ name, opts, in, line, fields string }{
		{"logfmt", "parse=logfmt parse-keep=true " + pw, `user=bob password=hunter2 n=1`, `user=bob password=[redacted:pw] n=1`,
			`user=bob password=[redacted:pw] n=1 original=user=bob password=[redacted:pw] n=1`},
		{"JSON, name and value", "parse=json parse-keep=true " + pw, `{"msg":"in","password":"hunter2","db":{"password":"x"}}`, "in",
			`password=[redacted:pw] db.password=[redacted:pw] original={"msg":"in","password":"[redacted:pw]","db":{"password":"[redacted:pw]"}}`},
		{"as it was written", `parse=json redact.k="k":"([^"]*)"`, `{"k":"secret","n":{"k":"other"}}`, `{"k":"[redacted:k]","n":{"k":"[redacted:k]"}}`, `k=[redacted:k] n.k=[redacted:k]`},
		{"over several values", `parse=json redact.k=a.*z`, `{"msg":"xa","b":"b\u0062","c":"zy","d":1}`, "x[redacted:k]", `[redacted:k]=[redacted:k] [redacted:k]=[redacted:k]y d=<1>`},
		{"within an escape", `parse=json redact.k=0(0.*)99`, `{"msg":"a\u00e9\u00e99","b":"c"}`, "a[redacted:k]9", "b=c"},
		{"a preset that needs the name", "parse=json redact=cloud-keys", `{"aws\u005fsecret_access_key":"abcd\u0065fghijk","n":1}`, `{"aws\u005fsecret_access_key":"[redacted:cloud-keys]","n":1}`,
			`aws_secret_access_key=[redacted:cloud-keys] n=<1>`},
		{"escaped in what stays JSON", "parse=json parse-keep=true redact=email", `{"msg":"m","to":["a\u0040b.org"],"a":{"b":{"c":{"d":{"e":"x\u0040y.org"}}}}}`, "m",
			`to=["[redacted:email]"] a.b.c.d={"e":"[redacted:email]"} original={"msg":"m","to":[redacted:email],"a":{"b":{"c":{"d":[redacted:email]}}}}`},
		{"escaped in a name of several", "parse=json parse-keep=true redact=email", `{"msg":"m","a\u0040b":{"c.org":1}}`, "m", `[redacted:email]=<1> original=[redacted:email]`},
		{"a number", `parse=json redact.n=\d{7}`, `{"card":1234567,"ok":true}`, `{"card":[redacted:n],"ok":true}`, `card=[redacted:n] ok=<true>`},
		{"all of a value", `parse=json redact.n=^\d{7}$`, `{"card":"1234567","more":"x1234567"}`, `{"card":"[redacted:n]","more":"x1234567"}`, `card=[redacted:n] more=x1234567`},
		{"a time that is not believed", `parse=json redact.n=1970`, `{"msg":"m","time":"1970-01-02T00:00:00Z"}`, `m`, `time=[redacted:n]-01-02T00:00:00Z`},
		{"what cannot be parsed", "parse=json redact=email", `{"to":"a@b.org"`, `{"to":"[redacted:email]"`, ""},
	} {
		var stats Stats
		got := run(spec(t, strings.Fields(tc.opts)...).New(&stats), tc.in)
		if d := cmp.Diff([]out{{Line: tc.line, Fields: tc.fields}}, got); d != "" || stats.Redactions.Load() == 0 {
			t.Errorf("%s: %d hidden %s", tc.name, stats.Redactions.Load(), d)
		}
	}
}

// What one record may cost has a bound, whatever it consists of. What is beyond
// that is not sent, and said and counted.
func TestSearchesAreBounded(t *testing.T) {
	hard := "(a{1,99}b){1,2}c" // some 400 instructions
	var many strings.Builder
	for i := range maxFields {
		fmt.Fprintf(&many, `"%s%d":"%s",`, strings.Repeat("k", 100), i, strings.Repeat("a", 300))
	}
	object := `{"o":{` + strings.TrimSuffix(many.String(), ",") + `},"msg":"` + strings.Repeat("a", 1000) + `"}`
	for _, tc := range []struct{ name, opts, in string }{
		{"a line", "", strings.Repeat("a", 1<<20)},
		{"fields", "parse=json", object},
		{"fields, kept", "parse=json parse-keep=true", object},
	} {
		var stats Stats
		s := spec(t, append(strings.Fields(tc.opts), "redact.k="+hard, "redact.l="+hard)...).New(&stats)
		s.Begin(time.Now())
		s.Add(&record.Joined{Line: []byte(tc.in), Time: sunday}, func(r *Record) {
			sent := len(r.Line)
			for _, f := range r.Fields {
				sent += len(f.Key) + len(f.Value)
			}
			if n := stats.Withheld.Load(); n == 0 || sent > maxSearch/300 || !strings.Contains(string(r.Line), " bytes left out, too many to look for secrets in]") && !strings.Contains(string(r.Line), " fields left out") {
				t.Errorf("%s: %d withheld, %d sent: %.200q", tc.name, n, sent, r.Line)
			}
		})
		if s.cost > maxSearch+8*len(tc.in) || !s.Enough() {
			t.Errorf("%s: it cost %d", tc.name, s.cost)
		}
	}
	mails := strings.Repeat("a@b.cd ", 1<<20/7)
	var stats Stats
	got := run(spec(t, "redact=all").New(&stats), mails)
	if n := stats.Withheld.Load(); n == 0 || int(n)/7 != 1<<20/7-maxHits || strings.Contains(got[0].Line, "a@b") {
		t.Errorf("of %d secrets in a line %d are hidden, and %d bytes withheld", 1<<20/7, stats.Redactions.Load(), n)
	}
	s := spec(t, "redact=all").New(&Stats{})
	s.Begin(time.Now())
	for n := 0; !s.Enough(); n++ {
		if s.Add(&record.Joined{Line: []byte(object)}, func(*Record) {}); n > 100 {
			t.Fatal("presets cost nothing")
		}
	}
}

// A secret is found wherever it is in a long line, and what would take too long
// to search is not sent.
// No preset goes over a line again and again: were it so, these records would
// take minutes each, and with them all that waits behind them.
func TestPresetsGoOverALineOnce(t *testing.T) {
	s := spec(t, "redact=all").New(&Stats{})
	for _, part := range []string{
		"%40", "a%40", "%40a.", "@", "a@", "a@b.", "://", "://a:b", "://a:b@", `:\/\/a:`, "bearer ", "basic aaa ", "authorization=",
		"authorization: basic ", "eyJ", "eyJ.", "AKIA", "ya29.", "=", ":", "\\\"", "id_token => ",
	} {
		line := bytes.Repeat([]byte(part), (512<<10)/len(part))
		got := 0
		s.Add(&record.Joined{Line: line}, func(*Record) { got++ })
		if got != 1 {
			t.Errorf("%q: %d records", part, got)
		}
	}
}

func TestRedactionOfLongLines(t *testing.T) {
	s := spec(t, `redact.k=secret-[a-z]+`).New(&Stats{})
	for at := maxFilter - 1100; at < maxFilter+100; at++ {
		in := strings.Repeat(".", at) + "secret-abcdefgh" + strings.Repeat(".", maxFilter)
		if got := run(s, in); got[0].Line != strings.Repeat(".", at)+"[redacted:k]"+strings.Repeat(".", maxFilter) {
			t.Fatalf("at %d it is not hidden", at)
		}
	}
	if got := run(s, strings.Repeat(".", 5000)+"secret-"+strings.Repeat("k", 100<<10)+" ok"); got[0].Line != strings.Repeat(".", 5000)+"[redacted:k] ok" {
		t.Errorf("of a long secret is left: %.80q", got[0].Line[5000:])
	}
	var stats Stats
	s = spec(t, "redact.k=(a{1,99}b){1,2}c").New(&stats)
	got := run(s, strings.Repeat("a", 1<<20))
	if n := int(stats.Withheld.Load()); n == 0 || !strings.HasSuffix(got[0].Line, fmt.Sprintf(" [dockline: %d bytes left out, too many to look for secrets in]", n)) {
		t.Errorf("%d withheld of %d", n, len(got[0].Line))
	}
}

// What goes with all records of a container is searched once.
func TestHide(t *testing.T) {
	s := spec(t, "redact=all", `redact.pw=(?i)pass(?:word)?[= ](\S+)`, `redact.all=^only$`)
	for _, tc := range []struct{ name, value, want string }{
		{"", "server --password hunter2 redis://:pw@h", "server --password [redacted:pw] redis://:[redacted:url-passwords]@h"},
		{"DB_PASSWORD", "hunter2", "[redacted:pw]"}, {"AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI", "[redacted:cloud-keys]"},
		{"X", "only", "[redacted:all]"}, {"X", "plain", "plain"}, {"X", "", ""},
	} {
		if got := s.Hide(tc.name, tc.value); got != tc.want {
			t.Errorf("%s=%s: %s", tc.name, tc.value, got)
		}
	}
	if got := s.Hide("X", strings.Repeat("x", 1<<20)); len(got) > 1<<18 || !strings.HasSuffix(got, "to look for secrets in]") {
		t.Errorf("%d bytes that nobody has searched", len(got))
	}
	if got := (*Spec)(nil).Hide("", "a@b.org"); got != "a@b.org" {
		t.Error(got)
	}
}
