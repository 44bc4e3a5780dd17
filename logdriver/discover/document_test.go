package discover

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// said is what a document that is followed says: texts, and "!" before errors.
type said struct {
	t  *testing.T
	ch chan string
}

func followText(t *testing.T, d Document) said {
	t.Helper()
	s := said{t, make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		FollowDocument(ctx, d, func(text []byte, err error) {
			if err != nil {
				text = []byte("!" + err.Error())
			}
			s.ch <- string(text)
		})
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return s
}

func (s said) awaits(part string) {
	s.t.Helper()
	late := time.After(30 * time.Second)
	for last := ""; ; {
		select {
		case last = <-s.ch:
			if strings.Contains(last, part) {
				return
			}
		case <-late:
			s.t.Fatalf("%q is never said, last was %q", part, last)
		}
	}
}

func document(t *testing.T, text string) Document {
	t.Helper()
	d, err := ParseDocument(text, Host{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEtcdKey(t *testing.T) {
	t.Parallel()
	endpoint, client, stop := startEtcd(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(ctx, key, value); err != nil {
			t.Fatal(err)
		}
	}
	s := followText(t, document(t, "etcd://"+endpoint+"/dockline/log.yaml"))
	s.awaits("!etcd has no key /dockline/log.yaml")
	put("/dockline/log.yaml", "one")
	put("/dockline/log.yamls", "other")
	s.awaits("one")
	put("/dockline/log.yaml", "two")
	s.awaits("two")
	if _, err := client.Delete(ctx, "/dockline/log.yaml"); err != nil {
		t.Fatal(err)
	}
	s.awaits("!etcd has no key /dockline/log.yaml any more")
	put("/dockline/log.yaml", "three")
	s.awaits("three")
	stop()
	s.awaits("!watch /dockline/log.yaml in etcd: none of its members has been reached for 5s")
}

// store answers as Consul's HTTP API does for one key, blocking queries included.
type store struct {
	mu      sync.Mutex
	changed chan struct{}
	index   uint64
	value   string
	broken  bool
}

func (s *store) set(index uint64, value string, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index, s.value, s.broken = index, value, broken
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wait, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	for wait > 0 && s.index == wait && !s.broken {
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		s.mu.Lock()
		if r.Context().Err() != nil {
			return
		}
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(s.index, 10))
	switch {
	case s.broken:
		http.Error(w, "no cluster leader", http.StatusInternalServerError)
	case r.URL.Path != "/v1/kv/dockline/log.yaml" || s.value == "":
		w.WriteHeader(http.StatusNotFound)
	default:
		_ = json.NewEncoder(w).Encode(api.KVPairs{{Key: "dockline/log.yaml", Value: []byte(s.value), ModifyIndex: s.index}})
	}
}

func TestConsulKey(t *testing.T) {
	kv := &store{index: 3, changed: make(chan struct{})}
	server := httptest.NewServer(kv)
	t.Cleanup(server.Close)
	s := followText(t, document(t, "consul://"+strings.TrimPrefix(server.URL, "http://")+"/dockline/log.yaml"))
	s.awaits("!there is no key dockline/log.yaml")
	kv.set(4, "one", false)
	s.awaits("one")
	kv.set(5, "two", false)
	s.awaits("two")
	kv.set(6, "", true)
	s.awaits("no cluster leader")
	kv.set(2, "restored", false)
	s.awaits("restored")
	time.AfterFunc(0, server.CloseClientConnections)
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := followText(t, Folder(dir, "c.yaml", "directory /srv"))
	s.awaits("!read directory /srv: c.yaml: no such file")
	write("c.yaml", "one")
	s.awaits("one")
	write("key.pem", "a file beside it")
	s.awaits("one") // so that who reads the others looks at them again
	write("c.yaml", "two")
	s.awaits("two")
	if err := os.Remove(filepath.Join(dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	s.awaits("no such file")
}

func TestBadDocuments(t *testing.T) {
	for text, want := range map[string]string{
		"/etc/x":                                     "neither consul://",
		"consul://h:1":                               "neither consul://",
		"consul+http://h:1/k":                        "neither consul://",
		"etcd://h:1/k?etcd-usr=x":                    "more in it than is known of etcd, or a user: etcd-usr",
		"consul://user:s3cret@h:1/k":                 "or a user",
		"consul://h:1/k?consul-tls=yes":              "neither on nor off",
		"consul://h:1/k?consul-token-file=/etc/nope": "no such file",
		"etcd://h:1/k?etcd-user=x":                   "go together",
		"etcd://u:s3cret@h:x/k":                      "a port is a number",
	} {
		if _, err := ParseDocument(text, Host{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
