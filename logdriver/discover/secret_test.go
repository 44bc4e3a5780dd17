package discover

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/parrot"
)

// A Consul or an etcd that repeats what it was shown shows nobody a secret.
func TestNoErrorShowsASecret(t *testing.T) {
	t.Parallel()
	const canary = `cAnArY1 "cAnArY2"/cAnArY3`
	dir := t.TempDir()
	for name, text := range map[string]string{"secret": canary + "\n", "token": "cAnArY4-5"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	consul := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "ACL not found: "+r.Header.Get("X-Consul-Token"), http.StatusForbidden)
	}))
	t.Cleanup(consul.Close)
	at, etcd := strings.TrimPrefix(consul.URL, "http://"), parrot.Etcd(t)
	for _, entry := range []string{
		"consul+relp://" + at + "/logs?consul-token-file=token",
		"etcd+relp://" + etcd + "/logs?etcd-user=u&etcd-password-file=secret",
	} {
		checkSaid(t, entry, firstSaid(t, source(t, entry, Host{Dir: dir})))
	}
	for _, key := range []string{"consul://" + at + "/logs?consul-token-file=token", "etcd://" + etcd + "/logs?etcd-user=u&etcd-password-file=secret"} {
		d, err := ParseDocument(key, Host{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		said := ""
		FollowDocument(ctx, d, func(_ []byte, err error) {
			if err != nil {
				said = err.Error()
			}
			cancel()
		})
		cancel()
		checkSaid(t, key, said)
	}
}

func checkSaid(t *testing.T, from, said string) {
	t.Helper()
	if !strings.Contains(said, "not with") && !strings.Contains(said, "ACL not found") {
		t.Errorf("%s: the parrot was not heard: %q", from, said)
	}
	if strings.Contains(said, "cAnArY") {
		t.Errorf("%s: %s", from, said)
	}
}
