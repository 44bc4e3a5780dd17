package nats

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

// A server that repeats what it was shown, in every place where its words get into
// an error, shows nobody a secret; nor does a file that is not what it should be.
func TestNoErrorShowsASecret(t *testing.T) {
	const canary = `cAnArY "1", 2:3/` + "4"
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds := fmt.Sprintf("-----BEGIN NATS USER JWT-----\nJWT%s\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n", strings.Repeat("x", 50), seed)
	padding := strings.Repeat(".", 200) // so that the secret is where a long text is cut
	for name, says := range map[string]func(shown map[string]any) string{
		"refuses":    func(m map[string]any) string { return fmt.Sprintf("-ERR 'not with %v'", m) },
		"at the cut": func(m map[string]any) string { return fmt.Sprintf("-ERR '%s %v'", padding, m) },
		"as it came": func(m map[string]any) string { text, _ := json.Marshal(m); return "-ERR '" + string(text) + "'" },
		"no protocol": func(m map[string]any) string {
			return strings.ReplaceAll(fmt.Sprint(m["pass"], m["auth_token"], m["jwt"], m["sig"]), " ", "_")
		},
		"later": func(m map[string]any) string { return fmt.Sprintf("PONG\r\n-ERR 'not with %v'", m) },
	} {
		for how, tc := range map[string]struct {
			user, query string
			files       map[string]string
		}{
			"password":        {user: url.UserPassword("u", canary).String() + "@"},
			"password-file":   {"u@", "&password-file=f", map[string]string{"f": canary + "\n"}},
			"token-file":      {"", "&token-file=f", map[string]string{"f": canary + "\n"}},
			"creds-file":      {"", "&creds-file=f", map[string]string{"f": creds}},
			"nkey-file":       {"", "&nkey-file=f", map[string]string{"f": string(seed)}},
			"no seed":         {"", "&nkey-file=f", map[string]string{"f": "SU" + canary}},
			"damaged seed":    {"", "&nkey-file=f", map[string]string{"f": string(seed[:len(seed)-3]) + "cAn"}},
			"no credentials":  {"", "&creds-file=f", map[string]string{"f": canary}},
			"a password only": {"u@", "&creds-file=f", nil},
		} {
			var shown []string
			serve := func(c net.Conn, br *bufio.Reader) {
				_, _ = fmt.Fprintf(c, "INFO %s\r\n", strings.Replace(greetingOK, "{", `{"nonce":"abc",`, 1))
				line, _ := br.ReadString('\n')
				var m map[string]any
				if json.Unmarshal([]byte(strings.TrimPrefix(line, "CONNECT ")), &m) != nil {
					return
				}
				for _, key := range []string{"pass", "auth_token", "jwt", "sig"} {
					if s, _ := m[key].(string); s != "" {
						shown = append(shown, s)
					}
				}
				_, _ = fmt.Fprintf(c, "%s\r\n", says(m))
				_, _ = io.Copy(io.Discard, br)
			}
			err := secretly(t, serve, tc.user, tc.query, tc.files)
			if err == nil {
				t.Errorf("%s, %s: there is no error", name, how)
				continue
			}
			for _, secret := range append(shown, canary, canary[:6], string(seed), string(seed[:20])) {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s, %s: %v", name, how, err)
				}
			}
		}
	}
}

// secretly logs in and returns what comes of it, at once or later.
func secretly(t *testing.T, serve func(net.Conn, *bufio.Reader), user, query string, files map[string]string) error {
	t.Helper()
	host := sinktest.Host()
	host.Config = t.TempDir()
	for name, text := range files {
		if err := testcert.WriteFile(host.Config, name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse("nats://" + user + sinktest.Serve(t, serve) + "?subject=logs&timeout=5s" + query)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newOne(u, host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := s.Dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Wait(ctx, 0)
	return err
}
