package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam/etcd"
)

// claimsFolder is where records of addresses are.
const claimsFolder = etcd.DefaultPrefix + "/address/"

// settings are the plugin's.
func (w *world) settings(e *engine) []string {
	all := []string{"LOG_LEVEL=info", "HOST_NAME=" + e.Name}
	if w.etcd != nil {
		all = append(all, "ETCD_ENDPOINTS="+strings.Join(w.etcd.Endpoints(), ","))
	}
	return all
}

// ipamOptions are those of the network (--ipam-opt).
func (w *world) ipamOptions(e *engine) object {
	switch w.backend {
	case "embedded":
		return object{}
	case "split":
		return object{"backend": w.backend, "hosts": fmt.Sprint(w.hosts), "host_index": fmt.Sprint(slices.Index(w.engines, e))}
	}
	return object{"backend": w.backend, "reserve": "8"}
}

// claimsInEtcd are the addresses of containers, with the host that claimed each,
// as they are read beside all hosts. What is kept for later, by a host or for a
// container that was stopped, is nobody's.
func (w *world) claimsInEtcd(ctx context.Context) (map[netip.Addr]string, error) {
	got, err := w.client.Get(ctx, claimsFolder, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read the claims: %w", err)
	}
	all := map[netip.Addr]string{}
	for _, kv := range got.Kvs {
		a, err := netip.ParseAddr(path.Base(string(kv.Key)))
		if err != nil {
			return nil, fmt.Errorf("read the claims: key %q: %w", kv.Key, err)
		}
		var r etcd.Record
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			return nil, fmt.Errorf("read the claim of %s: %w", a, err)
		}
		if r.Kind != "reserve" && r.Kind != "held" {
			all[a] = r.HostName
		}
	}
	return all, nil
}
