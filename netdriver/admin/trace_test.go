package admin

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/trace"
)

// What a trace asks of the plugin: who the ends are, and what is meant of them.
func TestEndsOfATrace(t *testing.T) {
	host := newSpace(t)
	p := newPlugin(t, host)
	pool, err := p.IPAM.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24")})
	ok(t, err)
	d, err := network.Parse(network.Request{
		ID: "n", Options: map[string]string{"mode": "bridge"}, IPv4: true,
		Pools: []network.Pool{{Space: pool.Space, Prefix: pool.Prefix}},
	})
	ok(t, err)
	ok(t, p.Networks.Create(d))
	for id, addr := range map[string]string{"aaaa1": "10.1.0.2/24", "aaaa2": "10.1.0.3/24"} {
		_, err = p.Endpoints.Create(endpoint.Endpoint{ID: id, Network: "n", IPv4: netip.MustParsePrefix(addr)})
		ok(t, err)
	}
	_, _, err = p.Endpoints.Join("aaaa1")
	ok(t, err)
	get := func(from, to string) (code int, body string) {
		w := httptest.NewRecorder()
		p.Server().ServeHTTP(w, httptest.NewRequest("GET", trace.Path+"?"+url.Values{"from": {from}, "to": {to}}.Encode(), nil))
		return w.Code, w.Body.String()
	}
	for name, tc := range map[string]struct{ from, to, addr, endpoint string }{
		"an address":          {"10.1.0.2", "10.1.0.3", "10.1.0.3", "aaaa2"},
		"an address in IPv6":  {"10.1.0.2", "::ffff:10.1.0.3", "10.1.0.3", "aaaa2"},
		"an id":               {"aaaa1", "aaaa2", "10.1.0.3", "aaaa2"},
		"another's address":   {"aaaa1", "192.0.2.1", "192.0.2.1", ""},
		"the name of a host":  {"aaaa1", "example.org", "", ""},
		"an id that is short": {"aaaa1", "aaa", "", ""},
	} {
		code, body := get(tc.from, tc.to)
		var known trace.Known
		if err := json.Unmarshal([]byte(body), &known); code != 200 || err != nil {
			t.Errorf("%s: %d %s", name, code, body)
			continue
		}
		f := known.From
		if f.Endpoint == nil || f.Endpoint.ID != "aaaa1" || !f.Endpoint.Joined || f.Network == nil || f.Network.Bridge != d.BridgeName ||
			f.Endpoint.HostLink != kernel.HostName("aaaa1") || f.Endpoint.Alias != host.k.EndpointAlias("n", "aaaa1") {
			t.Errorf("%s: from is %+v", name, f)
		}
		if f.Endpoint == nil || strings.Join(f.Endpoint.Differences, "") != "no link of it is in a sandbox" {
			t.Errorf("%s: the difference is missing in %s", name, body)
		}
		addr, id := known.To.Addr, ""
		if known.To.Endpoint != nil {
			id = known.To.Endpoint.ID
		}
		if addr.IsValid() != (tc.addr != "") || addr.IsValid() && addr.String() != tc.addr || id != tc.endpoint {
			t.Errorf("%s: to is %+v", name, known.To)
		}
	}
	for name, ends := range map[string][2]string{
		"no end":       {"", "10.1.0.3"},
		"two of an id": {"aaaa", "10.1.0.3"},
		"too long":     {"aaaa1", strings.Repeat("a", 256)},
	} {
		if code, body := get(ends[0], ends[1]); code != 400 {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
}
