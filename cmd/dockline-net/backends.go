package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/state"
)

// backends are those that addresses may come from, beside the embedded one.
type backends struct {
	all      map[string]ipam.Backend
	defaults map[string]string
	missing  map[string]string // why some are not there
	etcd     *etcd.Backend     // nil: it is not set up
	dhcp     *dhcp.Manager
}

// newBackends reads the settings.
func newBackends(kept *state.Dir, networks *network.Manager, getenv func(string) string, log *slog.Logger) (*backends, error) {
	b := &backends{all: map[string]ipam.Backend{ipam.SplitName: ipam.Split{}}}
	var err error
	if b.defaults, err = parseDefaults(getenv("IPAM_OPTIONS")); err != nil {
		return nil, &missetError{err}
	}
	settings, ok, err := etcd.ParseSettings(getenv)
	if err != nil {
		return nil, &missetError{err}
	}
	if ok {
		if b.etcd, err = newEtcd(settings, kept, networks, getenv, log); err != nil {
			return nil, err
		}
		b.all[etcd.Name] = b.etcd
	} else {
		b.missing = map[string]string{etcd.Name: "this plugin is told of no etcd: docker plugin disable -f, docker plugin set … ETCD_ENDPOINTS=http://HOST:2379, docker plugin enable"}
	}
	return b, nil
}

func newEtcd(settings etcd.Settings, kept *state.Dir, networks *network.Manager, getenv func(string) string, log *slog.Logger) (*etcd.Backend, error) {
	reserve, err := state.Durable[netip.Addr](kept, "reserve")
	if err != nil {
		return nil, err
	}
	host, err := kept.Instance()
	if err != nil {
		return nil, err
	}
	boot, err := state.BootID()
	if err != nil {
		return nil, err
	}
	if w := settings.Exposed(); w != "" {
		log.Warn("a secret is sent without encryption", "what", w)
	}
	own, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("look up the host's name: %w", err)
	}
	return etcd.New(etcd.Config{
		Settings: settings, Host: host, Boot: boot, HostName: cmp.Or(getenv("HOST_NAME"), own), Reserve: reserve,
		Network: func(pool netip.Prefix) string {
			for _, d := range networks.List() {
				for _, p := range d.Pools {
					if p.Space == ipam.LocalSpace && p.Prefix == pool {
						return network.Short(d.ID)
					}
				}
			}
			return ""
		},
		Definition: func(pool netip.Prefix) map[string]string {
			for _, d := range networks.List() {
				for _, p := range d.Pools {
					if p.Space == ipam.LocalSpace && p.Prefix == pool && !d.Going {
						return d.Shared(pool)
					}
				}
			}
			return nil
		},
		Log: log.With("backend", etcd.Name),
	})
}

// parseDefaults reads KEY=VALUE pairs.
func parseDefaults(text string) (map[string]string, error) {
	all := map[string]string{}
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		key, value, ok := strings.Cut(field, "=")
		if !ok || key == "" || value == "" {
			return nil, fmt.Errorf("IPAM_OPTIONS: %q is not of the form KEY=VALUE", field)
		}
		all[key] = value
	}
	return all, nil
}

// handle adds what operators do to the cluster.
func (b *backends) handle(s *shared.Server) {
	if b.etcd == nil {
		return
	}
	s.HandleChange("/reclaim", func(r *http.Request) (any, error) {
		all, err := b.etcd.Reclaim(r.Context(), r.URL.Query().Get("host"))
		switch {
		case errors.Is(err, etcd.ErrAlive):
			return nil, &shared.Error{Code: http.StatusConflict, Err: err}
		case errors.Is(err, etcd.ErrNoHost):
			return nil, &shared.Error{Code: http.StatusNotFound, Err: err}
		case err != nil:
			return nil, err
		}
		return map[string]any{"reclaimed": all}, nil
	})
}

// setPools tells them of the addresses that are given out, which were made of them.
func (b *backends) setPools(addresses *ipam.Manager) {
	if b.etcd != nil {
		b.etcd.SetPools(addresses)
	}
	b.dhcp.SetKnown(addresses.Held)
}
