package redact

import (
	"strings"
	"testing"
)

func TestSecretsAreTakenOut(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"user of a URL":           {"relp://me:hunter2x@10.0.0.1:2514?tls=on", "relp://REDACTED@10.0.0.1:2514?tls=on"},
		"a slash in the password": {"es+https://me:hun/ter2x@10.0.0.1:2514", "es+https://REDACTED@10.0.0.1:2514"},
		"a token as the user":     {"nats://s3cr3ttoken@10.0.0.1", "nats://REDACTED@10.0.0.1"},
		"parameter":               {"loki://a:1?password=hunter2x&tenant=t", "loki://a:1?password=REDACTED&tenant=t"},
		"two in a list":           {"x://u:aaaaaa@h1,x://u:bbbbbb@h2?token=cccccc", "x://REDACTED@h1,x://REDACTED@h2?token=REDACTED"},
		"JSON":                    {`{"Password": "hun\"ter2x", "name": "n"}`, `{"Password": "REDACTED", "name": "n"}`},
		"YAML":                    {"sasl-password: hunter2x\nname: n", "sasl-password: REDACTED\nname: n"},
		"environment":             {"ETCD_PASSWORD=hunter2x LOG_LEVEL=info", "ETCD_PASSWORD=REDACTED LOG_LEVEL=info"},
		"header":                  {"Authorization: Bearer abcdef.ghijkl-mnop", "Authorization: REDACTED REDACTED"},
		"bearer alone":            {"got Bearer abcdef.ghijkl from it", "got Bearer REDACTED from it"},
		"private key":             {"a -----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY----- b", "a REDACTED b"},
		"key cut off":             {"a -----BEGIN PRIVATE KEY-----\nMHcCAQ", "a REDACTED"},
		"file of a secret":        {"consul-token-file=consul.token", "consul-token-file=consul.token"},
		"switch":                  {"token=off secrets=0", "token=off secrets=0"},
		"nothing":                 {"http://10.0.0.1/a@b mail me@example.com", "http://REDACTED@b mail me@example.com"},
		"address with port":       {"relp://10.0.0.1:2514?name=c1&weight=2", "relp://10.0.0.1:2514?name=c1&weight=2"},
	} {
		t.Run(name, func(t *testing.T) {
			var r Redactor
			if got := r.Text(c.text); got != c.want {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

// What was a secret in one place is one everywhere, in any form.
func TestKnownSecrets(t *testing.T) {
	var r Redactor
	r.Learn("x://me:p%40ss word@h y://me:p%40ssw0rd@h")
	got := r.Text("it said: p@ssw0rd is wrong (p%40ssw0rd)")
	if strings.Contains(got, "ssw0rd") || strings.Count(got, Mark) != 2 {
		t.Error(got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("relp://me:hunter2x@10.0.0.1:2514?password=x", "hunter2x")
	f.Fuzz(func(t *testing.T, text, secret string) {
		if len(secret) < minKnown || strings.Contains(Mark, secret) {
			t.Skip("too short to be looked for everywhere")
		}
		var r Redactor
		r.LearnValue(secret)
		if got := r.Text(text); strings.Contains(strings.ReplaceAll(got, Mark, "\x00"), secret) {
			t.Errorf("%q is left in %q", secret, got)
		}
	})
}
