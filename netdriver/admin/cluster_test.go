package admin

import (
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/dockline/dockline/netdriver/ipam/etcd"
)

// What is shown of a cluster whose etcd was never reached.
func TestTheCluster(t *testing.T) {
	p := newPlugin(t, newSpace(t))
	var err error
	p.Cluster, err = etcd.New(etcd.Config{
		Settings: etcd.Settings{Endpoints: []string{"http://192.0.2.1:2379"}, Prefix: etcd.DefaultPrefix}, Host: "h", HostName: "box",
		Reserve: table[netip.Addr]{"default 10.0.0.5": netip.MustParseAddr("10.0.0.5")}, Log: slog.New(slog.DiscardHandler),
	})
	ok(t, err)
	for path, want := range map[string][]string{
		"/metrics": {
			"dockline_net_cluster_up 0\n", "dockline_net_cluster_reserve 1\n", "dockline_net_cluster_conflicts 0\n",
			`dockline_net_cluster_claims_total{result="failed"} 0`, `dockline_net_cluster_hosts{state="lost"} 0`,
		},
		"/cluster": {`"fault": "there was no connection yet"`, `"host": "h"`},
		"/claims":  {"[]"},
	} {
		w := httptest.NewRecorder()
		p.Server().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		for _, line := range want {
			if !strings.Contains(w.Body.String(), line) {
				t.Errorf("%s lacks %s:\n%s", path, line, w.Body)
			}
		}
	}
}
