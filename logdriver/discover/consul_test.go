package discover

import (
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

// catalogue answers as Consul's HTTP API does for the health of one service,
// blocking queries included (developer.hashicorp.com/consul/api-docs/health).
type catalogue struct {
	mu      sync.Mutex
	changed chan struct{}
	index   uint64
	entries []*api.ServiceEntry
	broken  bool
	asked   []string
}

func newCatalogue() *catalogue { return &catalogue{index: 7, changed: make(chan struct{})} }

func (c *catalogue) set(index uint64, entries ...*api.ServiceEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index, c.entries = index, entries
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *catalogue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	wait, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	c.mu.Lock()
	c.asked = append(c.asked, r.URL.Path+"?passing="+strconv.FormatBool(q.Has("passing"))+"&tag="+q.Get("tag")+" token="+r.Header.Get("X-Consul-Token"))
	for wait > 0 && c.index == wait && !c.broken {
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.broken {
		http.Error(w, "no cluster leader", http.StatusInternalServerError)
		return
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(c.index, 10))
	_ = json.NewEncoder(w).Encode(c.entries)
}

func instance(address string, port, weight int, meta map[string]string) *api.ServiceEntry {
	return &api.ServiceEntry{
		Node:    &api.Node{Node: "n", Address: "192.0.2.100"},
		Service: &api.AgentService{ID: address, Address: address, Port: port, Weights: api.AgentWeights{Passing: weight, Warning: 1}, Meta: meta},
	}
}

func TestConsul(t *testing.T) {
	c := newCatalogue()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.set(7, instance("192.0.2.1", 601, 1, nil), instance("", 602, 5, nil))
	entry := "consul+relp://" + strings.TrimPrefix(server.URL, "http://") + "/logs?consul-tag=blue"
	f := followSource(t, source(t, entry, Host{}))
	f.awaits("192.0.2.100:602*5 192.0.2.1:601*1")
	c.set(9, instance("192.0.2.1", 601, 1, map[string]string{"dockline-name": "c1", "dockline-weight": "0"}))
	f.awaits("c1*0")
	c.set(3, instance("192.0.2.2", 601, 1, nil)) // restored from a snapshot
	f.awaits("192.0.2.2:601*1")
	c.mu.Lock()
	if got := c.asked[0]; got != "/v1/health/service/logs?passing=true&tag=blue token=" {
		t.Errorf("asked %s", got)
	}
	c.broken = true
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	f.fails("no cluster leader")
	if !strings.Contains(source(t, entry, Host{}).String(), "/logs with tag blue") {
		t.Errorf("it is called %s", source(t, entry, Host{}))
	}
	time.AfterFunc(0, server.CloseClientConnections)
}

// A token is read when Consul is asked, so that one that was replaced is used.
// An answer without an index, which a proxy may give, is an answer too.
func TestConsulToken(t *testing.T) {
	c := newCatalogue()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.set(0, instance("192.0.2.1", 601, 1, nil))
	token := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(token, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	s := source(t, "consul+relp://"+strings.TrimPrefix(server.URL, "http://")+"/logs?consul-token-file=token", Host{Dir: filepath.Dir(token)})
	write("new")
	followSource(t, s).awaits("192.0.2.1:601*1")
	c.mu.Lock()
	defer c.mu.Unlock()
	if !strings.HasSuffix(c.asked[0], "token=new") {
		t.Errorf("asked %s", c.asked[0])
	}
}
