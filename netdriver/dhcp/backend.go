package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/netdriver/ipam"
)

// The options of a pool (--ipam-opt). The router is what a server said when the
// pool was made; users do not give it.
const (
	optionParent = "parent"
	optionRouter = "router"
)

// hostKey is the key of the host's own lease, which no container's name is.
const hostKey = "/host"

var _ ipam.Backend = (*Manager)(nil)

// Options are those that a network may give it.
func (m *Manager) Options() []options.Option { return Options() }

// Options are those of every Manager.
func Options() []options.Option {
	return []options.Option{{Name: optionParent, Type: "interface", Doc: "Behind which the server is, until the network is there: the one that `-o parent` or `-o uplink` names. Not needed with `--subnet` and `--gateway`."}}
}

// Prepare implements ipam.Backend. It asks on the parent what the LAN's server
// leases, and takes nothing: an OFFER that is not accepted lapses.
func (m *Manager) Prepare(ctx context.Context, r ipam.PoolRequest) (ipam.PoolRequest, error) {
	if err := ipam.CheckOptions(r.Options, m.Options()...); err != nil {
		return r, err
	}
	parent := r.Options[optionParent]
	switch {
	case r.V6 || r.Prefix.Addr().Is6():
		return r, nil // chosen as without a backend
	case r.Range.IsValid() && r.Range != r.Prefix:
		return r, fmt.Errorf("range %s: the DHCP server chooses the addresses; leave out --ip-range, and set the range there", r.Range)
	case parent == "" && !r.Prefix.IsValid():
		return r, &options.ValueError{What: "IPAM option", Key: optionParent, Value: "",
			Err: errors.New("without --subnet the DHCP server is asked for it, and has to be found: give the interface that leads to it, as in --ipam-opt parent=eth0")}
	case parent == "":
		return r, nil
	}
	addr, t, err := m.probe(ctx, parent, r.Prefix.IsValid())
	switch {
	case err != nil && r.Prefix.IsValid() && errors.Is(err, errSilence):
		m.cfg.Log.Warn("no DHCP server answers yet: whether the subnet is its own shows when a container starts", "parent", parent, "subnet", r.Prefix)
		return r, nil
	case errors.Is(err, errSilence):
		return r, fmt.Errorf("no DHCP server answered on %s within %s: see that one serves the LAN there, or give --subnet and --gateway", parent, probeWithin)
	case err != nil:
		return r, fmt.Errorf("look for a DHCP server on %s: %w", parent, err)
	}
	return fill(r, addr, t)
}

// fill takes what a server offered into the request.
func fill(r ipam.PoolRequest, addr netip.Addr, t Terms) (ipam.PoolRequest, error) {
	offered := t.Prefix
	switch {
	case !r.Prefix.IsValid() && !offered.IsValid():
		return r, fmt.Errorf("DHCP server %s says no subnet mask (option 1): give --subnet", t.Server)
	case !r.Prefix.IsValid():
		r.Prefix = offered
	case offered.IsValid() && offered != r.Prefix.Masked():
		return r, fmt.Errorf("subnet %s: DHCP server %s leases out of %s; give --subnet %s, or leave it out", r.Prefix, t.Server, offered, offered)
	case !r.Prefix.Contains(addr):
		return r, fmt.Errorf("subnet %s: DHCP server %s offers %s, which is not in it; give the server's subnet, or leave it out", r.Prefix, t.Server, addr)
	}
	if t.Router.IsValid() && r.Prefix.Contains(t.Router) {
		own := map[string]string{optionRouter: t.Router.String()}
		for key, value := range r.Options {
			own[key] = value
		}
		r.Options = own
	}
	return r, nil
}

const probeWithin = 14 * time.Second

// probe asks for an offer that is not taken.
func (m *Manager) probe(ctx context.Context, parent string, short bool) (netip.Addr, Terms, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeWithin, errSilence)
	defer cancel()
	w := newWire(m.cfg.Host, Pool{ID: "probe " + parent, Parent: parent}, m.cfg.Log)
	defer w.close()
	waits := pauses(firstPause, askTries)
	if short {
		waits = []time.Duration{2 * firstPause}
	}
	c := client{MAC: m.ownMAC("probe"), ID: clientID(m.cfg.Instance, owner{key: "/probe"})}
	return w.discover(ctx, c, netip.Addr{}, waits, func(netip.Addr, Terms) error { return nil })
}

// ownMAC is one of this installation's that no endpoint has.
func (m *Manager) ownMAC(what string) net.HardwareAddr {
	h := xxhash.Sum64String(m.cfg.Instance + "/" + what)
	return net.HardwareAddr{0x06, byte(h), byte(h >> 8), byte(h >> 16), byte(h >> 24), byte(h >> 32)} //nolint:gosec // its bytes
}

func leases(p ipam.Pool) bool { return p.Prefix.Addr().Is4() }

func poolOf(p ipam.Pool) Pool {
	return Pool{ID: p.ID, Prefix: p.Prefix, Parent: p.Options[optionParent]}
}

// View implements ipam.Backend: the server chooses, but for what is set aside.
func (m *Manager) View(p ipam.Pool, _ ipam.Owner) ipam.View { return ipam.View{Chooses: leases(p)} }

// Claim implements ipam.Backend.
func (m *Manager) Claim(ctx context.Context, p ipam.Pool, c ipam.Claim) (netip.Addr, error) {
	var named netip.Addr
	if len(c.Candidates) > 0 {
		named = c.Candidates[0]
	}
	pool := poolOf(p)
	o := ownerOf(c.MAC, c.Name)
	switch {
	case !leases(p):
		return named, nil
	case (c.Kind == ipam.Aside || c.Kind == ipam.Gateway) && named.IsValid():
		return named, nil
	case c.Kind == ipam.Aside, c.Kind == ipam.Gateway:
		return router(p)
	case c.Kind == ipam.Host:
		o = owner{key: hostKey, mac: m.ownMAC("host " + p.ID)}
	}
	switch {
	case c.Replay && named.IsValid():
		m.confirm(pool, o, named)
		return named, nil
	case c.Kind == ipam.Container && !m.cfg.Ours(p.Prefix):
		return netip.Addr{}, errors.New("addresses from a DHCP server are for networks of this plugin's own driver; make the network with it (-d), or leave out --ipam-opt backend")
	case len(o.mac) != 6:
		return netip.Addr{}, errors.New("the engine does not say the endpoint's MAC, by which a DHCP server knows it: have it asked for with REQUIRE_MAC=on (docker plugin disable -f, docker plugin set, docker plugin enable)")
	}
	return m.lease(ctx, pool, o, named)
}

// router is the gateway of a network whose user names none.
func router(p ipam.Pool) (netip.Addr, error) {
	a, err := netip.ParseAddr(p.Options[optionRouter])
	if err != nil {
		return netip.Addr{}, errors.New("no DHCP server has said which router the LAN has (option 3): give --gateway, or --ipam-opt parent with a server there that says it")
	}
	return a, nil
}

// Release implements ipam.Backend. The lease waits for a while for the container
// to come back; then the server is told.
func (m *Manager) Release(_ context.Context, p ipam.Pool, h ipam.Held) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		if l.Pool.ID == p.ID && l.Addr == h.Addr {
			if l.abort != nil {
				l.abort()
			}
			m.idleLocked(l)
		}
	}
	return nil
}

// Leave implements ipam.Backend.
func (m *Manager) Leave(ctx context.Context, p ipam.Pool) error {
	m.mu.Lock()
	var all []*lease
	for _, l := range m.leases {
		if l.Pool.ID == p.ID {
			all = append(all, l)
		}
	}
	w := m.wires[p.ID]
	delete(m.wires, p.ID)
	m.mu.Unlock()
	var errs []error
	for _, l := range all {
		end, err := m.take(ctx, l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.giveBack(l, "its network is gone")
		end()
	}
	if w != nil {
		w.close()
	}
	return errors.Join(errs...)
}
