package logdriver

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
)

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Secrets and files lie beside the configuration. A version with bad ones is
// refused, with another content they are another version, they outlive their
// source, and nothing ever says a secret.
func TestSecretsAndFiles(t *testing.T) {
	addr, lines := collector(t)
	mount := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(mount, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		members(t, filepath.Join(mount, name), text)
	}
	var log lockedBuffer
	h := &host{t: t, dir: t.TempDir(), cfg: Config{ConfigMount: mount, ConfigMountedFrom: "/srv/conf", HostName: "h1", Etc: "/", SpoolMax: 1 << 30}}
	h.cfg.StateDir = filepath.Join(h.dir, "state")
	h.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	const secret = "s3cret 7%/+"
	write("secrets/t", secret)
	text := "pools:\n  web:\n    collectors: 'json+tcp://" + addr + "?name=c'\n    secrets: {timeout: secrets/t}\n    options: {max-line: 7k}\ndefaults: {pools: [web]}\n"
	write(config.FileName, text)
	h.start()
	t.Cleanup(func() { h.plugin.Close() })
	r := h.run(1, nil)
	r.write("one")
	h.until("the bad secret is refused", func(s admin.Status) bool {
		return strings.Contains(s.Config.Refused, "dockline-log.yaml:3: pools.web.collectors: ") && strings.Contains(s.Config.Refused, "timeout=")
	})
	write("secrets/t", "17s\n")
	members(t, filepath.Join(mount, config.FileName), text) // so that it is looked at
	expect(t, lines, "one")
	first := h.untilVersion("")
	write("secrets/t", "18s\n")
	members(t, filepath.Join(mount, config.FileName), text)
	h.untilVersion(first)
	r.write("two")
	expect(t, lines, "two")
	if err := os.RemoveAll(filepath.Join(mount, "secrets")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(mount, config.FileName)); err != nil {
		t.Fatal(err)
	}
	h.restart()
	r.write("three")
	expect(t, lines, "three")
	_, status := h.get(t.Context(), "/status")
	_, metrics := h.get(t.Context(), "/metrics")
	said := log.String() + status + metrics
	for _, part := range []string{"s3cret", "17s", "18s"} {
		if strings.Contains(said, part) {
			t.Errorf("something says %s:\n%s", part, said)
		}
	}
	var open []string
	err := filepath.Walk(filepath.Join(h.cfg.StateDir, "config"), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm() != 0o600 {
			open = append(open, path)
		}
		return err
	})
	if err != nil || len(open) > 0 {
		t.Errorf("others may read %v (%v)", open, err)
	}
	r.stop()
}

// A key of Consul's holds the configuration.
func TestConfigurationInConsul(t *testing.T) {
	got := newTally(t)
	text := "pools:\n" + got.collector("web")
	var mu sync.Mutex
	index, ended := uint64(1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("index") == "2" { // there is nothing new
			select {
			case <-ended:
			case <-r.Context().Done():
			}
			return
		}
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("X-Consul-Index", "2")
		_ = json.NewEncoder(w).Encode(api.KVPairs{{Key: "log", Value: []byte(text), ModifyIndex: index}})
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	h := &host{t: t, dir: t.TempDir(), cfg: Config{HostName: "h1", Etc: "/", SpoolMax: 1 << 30, ConfigFrom: "consul://" + strings.TrimPrefix(server.URL, "http://") + "/log"}}
	h.cfg.StateDir = filepath.Join(h.dir, "state")
	h.start()
	t.Cleanup(func() { h.plugin.Close() })
	r := h.run(1, map[string]string{"pool": "web"})
	r.write("one")
	got.until("it has come", func() bool { return got.at["web"]["one"] == 1 })
	r.stop()
	if s := h.plugin.Status().Config; s.Source != h.cfg.ConfigFrom || s.Version == "" {
		t.Errorf("status: %+v", s)
	}
}
