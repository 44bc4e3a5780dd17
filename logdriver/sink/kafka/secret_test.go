package kafka

import (
	"net/url"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Brokers that repeat what they were shown show nobody a password.
func TestNoErrorShowsASecret(t *testing.T) {
	const canary = `cAnArY "1", 2:3`
	for _, mechanism := range []string{"plain", "scram-sha-256"} {
		for _, user := range []string{url.UserPassword("u", canary).String() + "@", "u@"} {
			p := start(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "other"), kfake.Superuser("SCRAM-SHA-256", "u", "other"))
			put(t, p.host.Config, "f", canary+"\n")
			heard := ""
			p.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
				p.KeepControl()
				req := r.(*kmsg.SASLAuthenticateRequest)
				heard += string(req.SASLAuthBytes)
				res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				says := "not with " + strings.ReplaceAll(string(req.SASLAuthBytes), "\x00", " ")
				res.ErrorCode, res.ErrorMessage = kerr.SaslAuthenticationFailed.Code, &says
				return res, nil, true
			})
			params := []string{"timeout=20s", "sasl=" + mechanism}
			if user == "u@" {
				params = append(params, "password-file=f")
			}
			err := try(t, p.open("kafka://"+user, params...))
			if err == nil || !strings.Contains(err.Error(), "refuse the user or the password") || strings.Contains(err.Error(), canary[:6]) {
				t.Errorf("%s, %s: %v", mechanism, user, err)
			}
			if showed := strings.Contains(heard, canary); showed != (mechanism == "plain") {
				t.Errorf("%s, %s: the brokers heard %q", mechanism, user, heard)
			}
		}
	}
}
