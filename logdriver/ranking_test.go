package logdriver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
)

// Hosts that know the same collectors from different sources, in whatever order
// and at whatever addresses, rank them the same for every key.
func TestHostsAgreeWhateverTheirSources(t *testing.T) {
	weights := map[string]int{"a": 1, "b": 2, "c": 5, "d": 1, "e": 3, "drained": 0}
	entry := func(name string, port int) string {
		return fmt.Sprintf("json+tcp://127.0.0.1:%d?name=%s&weight=%d", port, name, weights[name])
	}
	list := filepath.Join(t.TempDir(), "collectors")
	members(t, list, entry("e", 1), entry("b", 2), entry("drained", 3), entry("a", 4), entry("d", 5), entry("c", 6))
	consul := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("index") != "" {
			<-r.Context().Done() // nothing will change
			return
		}
		var all []*api.ServiceEntry
		for name, weight := range weights {
			all = append(all, &api.ServiceEntry{Node: &api.Node{Node: "n"}, Service: &api.AgentService{Address: "127.0.0.1", Port: 10 + len(all), Meta: map[string]string{"dockline-name": name, "dockline-weight": fmt.Sprint(weight)}}})
		}
		w.Header().Set("X-Consul-Index", "7")
		_ = json.NewEncoder(w).Encode(all)
	}))
	t.Cleanup(consul.Close)
	t.Cleanup(consul.CloseClientConnections)
	sources := map[string]string{
		"static":   strings.Join([]string{entry("a", 21), entry("b", 22), entry("c", 23), entry("d", 24), entry("e", 25), entry("drained", 26)}, ","),
		"reversed": strings.Join([]string{entry("drained", 1), entry("e", 2), entry("d", 3), entry("c", 4), entry("b", 5), entry("a", 6)}, ","),
		"a file":   "file://" + inEtc + list,
		"Consul":   "consul+json+tcp://" + strings.TrimPrefix(consul.URL, "http://") + "/logs",
	}
	ranks := map[string]func(string) []string{}
	for name, source := range sources {
		h := newHost(t, source)
		r := h.run(1, nil)
		t.Cleanup(r.stop)
		h.until("its collectors are known", func(s admin.Status) bool { return len(s.Collectors) == len(weights)-1 })
		pool, done, err := h.plugin.pools.Use(&config.Pool{Name: config.DefaultPool, List: source, Setting: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(done)
		ranks[name] = pool.Rank
	}
	for i := range 5000 {
		key := fmt.Sprint("key-", i)
		want := ranks["static"](key)
		if len(want) != len(weights)-1 || slices.Contains(want, "drained") {
			t.Fatalf("%s is ranked %v", key, want)
		}
		for name, rank := range ranks {
			if got := rank(key); !slices.Equal(got, want) {
				t.Fatalf("%s: %v says a host that knows them from %s, %v one with a list", key, got, name, want)
			}
		}
	}
}
