package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/network"
)

func TestReservationsOverTheSocket(t *testing.T) {
	p := newPlugin(t, newSpace(t))
	pool, err := p.IPAM.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24")})
	ok(t, err)
	d, err := network.Parse(network.Request{
		ID: "0123456789abcdef", Options: map[string]string{"mode": "bridge"}, IPv4: true,
		Pools: []network.Pool{{Space: pool.Space, Prefix: pool.Prefix}},
	})
	ok(t, err)
	ok(t, p.Networks.Create(d))
	for _, step := range []struct {
		path string
		code int
		says string
	}{
		{"reserve?network=0123456789ab&address=10.1.0.9&name=web", http.StatusOK, `"key": "web"`},
		{"reserve?pool=10.1.0.0/24&address=10.1.0.10&mac=02-00-5E-00-53-07", http.StatusOK, `"key": "02:00:5e:00:53:07"`},
		{"reserve?network=0123456789ab&address=10.1.0.9&name=db", http.StatusConflict, "web"},
		{"reserve?network=9&address=10.1.0.9&name=db", http.StatusNotFound, "no such network"},
		{"reserve?network=0123&address=10.2.0.9&name=db", http.StatusBadRequest, "in no subnet"},
		{"reserve?pool=10.2.0.0/24&address=10.2.0.9&name=db", http.StatusNotFound, "no such address pool"},
		{"reserve?pool=10.1.0.0/24&address=10.1.0.255&name=db", http.StatusBadRequest, "broadcast"},
		{"reserve?pool=10.1.0.0/24&address=10.1.0.11", http.StatusBadRequest, "name="},
		{"reserve?pool=10.1.0.0/24&address=10.1.0.11&name=db&mac=02:00:5e:00:53:08", http.StatusBadRequest, "one of"},
		{"reserve?pool=10.1.0.0/24&address=10.1.0.11&mac=mine", http.StatusBadRequest, "mac="},
		{"reserve?pool=10.1.0.0/24&adress=10.1.0.11&name=db", http.StatusBadRequest, `"adress"`},
		{"reserve?address=10.1.0.11&name=db", http.StatusBadRequest, "network="},
		{"unreserve?pool=10.1.0.0/24&address=10.1.0.9", http.StatusOK, "true"},
		{"unreserve?pool=10.1.0.0/24&address=10.1.0.9", http.StatusNotFound, "no such reservation"},
	} {
		w := httptest.NewRecorder()
		p.Server().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/addresses/"+step.path, nil))
		if w.Code != step.code || !strings.Contains(w.Body.String(), step.says) {
			t.Errorf("%s: %d %s", step.path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	p.Server().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/addresses/reservations", nil))
	var all []ipam.Reservation
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || len(all) != 1 || all[0].Addr != netip.MustParseAddr("10.1.0.10") {
		t.Errorf("listed %s, %v", w.Body, err)
	}
}
