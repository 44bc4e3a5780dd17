package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/parrot"
	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/netdriver/state"
)

const canary = `cAnArY1 "cAnArY2"/cAnArY3%2F`

// sings returns where in a text a part of the canary is.
func sings(text string) string {
	at := strings.Index(strings.ToLower(text), "canary")
	if at < 0 {
		return ""
	}
	return text[max(0, at-200):min(len(text), at+100)]
}

// No error about settings shows a password that somebody has typed into one.
func TestNoSettingShowsASecret(t *testing.T) {
	for _, endpoints := range []string{
		"http://u:%s@h:1", "http://%s@h:1", "http://u:%s@h", "u:%s@h:1", "https://:%s@h:1", "http://h:1,https://u:%s@h:1", "http://h:1?password=%s", "http://h:1/#%s",
		"http://h:1/?%s", "h:1?password=%s", "etcd://h:1?password=%s", "http://h:1;u:%s",
	} {
		for _, secret := range []string{"cAnArY1", url.QueryEscape(canary), canary} {
			env := map[string]string{"ETCD_ENDPOINTS": fmt.Sprintf(strings.ReplaceAll(endpoints, "%s", "%[1]s"), secret)}
			_, err := newBackends(nil, nil, func(key string) string { return env[key] }, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Errorf("%q is taken", env["ETCD_ENDPOINTS"])
			} else if said := sings(err.Error()); said != "" {
				t.Errorf("%q: %s", env["ETCD_ENDPOINTS"], said)
			}
		}
	}
}

// Nothing that an operator sees of the plugin shows the password of its etcd, wherever
// it comes from, whatever etcd says, and whatever is wrong with the files.
func TestNothingShowsASecret(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	at := parrot.Etcd(t)
	for name, c := range map[string]struct {
		env  map[string]string
		says string
	}{
		"by environment": {map[string]string{"ETCD_ENDPOINTS": "http://" + at, "ETCD_PASSWORD": canary}, "not with"},
		"by a file":      {map[string]string{"ETCD_ENDPOINTS": "http://" + at, "ETCD_PASSWORD_FILE": file("password", canary+"\n")}, "not with"},
		"no authority":   {map[string]string{"ETCD_ENDPOINTS": "https://" + at, "ETCD_PASSWORD": canary, "ETCD_CA_FILE": file("ca", canary)}, "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range c.env {
				t.Setenv(key, value)
			}
			t.Setenv("ETCD_USER", "somebody")
			seen := shown(t, c.says)
			if said := sings(seen); said != "" {
				t.Error(said)
			}
			for _, path := range []string{"/cluster", "/metrics", "/log"} {
				if !strings.Contains(seen, "== "+path) {
					t.Errorf("nothing is said at %s", path)
				}
			}
		})
	}
}

// shown runs the plugin's part of etcd until that says something, and returns all that
// can be seen.
func shown(t *testing.T, says string) string {
	t.Helper()
	host := hostIn(t)
	kept, err := state.Open(t.TempDir(), "boot")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	var recent pluginlog.Recent
	var out lockedBuffer
	log := pluginlog.New(recent.Tee(&out), recent.Tee(&out), slog.LevelDebug)
	p, err := assemble(host, kept, settings{recent: &recent}, log)
	if err != nil {
		t.Fatal(err)
	}
	p.recent = &recent
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.from.etcd.Run(ctx) })
	defer func() { cancel(); running.Wait() }()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.from.etcd.Status().Fault, says); {
		if time.Now().After(end) {
			t.Fatalf("it does not say %q but %q", says, p.from.etcd.Status().Fault)
		}
		time.Sleep(5 * time.Millisecond) // there is nothing to subscribe to
	}
	seen := out.String()
	for _, path := range []string{"/status", "/cluster", "/claims", "/events", "/metrics", "/healthz", "/readyz", "/log", "/version", "/addresses/reservations"} {
		w := httptest.NewRecorder()
		p.operators().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		seen += "\n== " + path + "\n" + w.Body.String()
	}
	return seen
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
