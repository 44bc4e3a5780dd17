package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/network"
)

// registerReservations adds the calls by which addresses are kept for containers.
func (p *Plugin) registerReservations(s *shared.Server) {
	s.Handle("/addresses/reservations", func(*http.Request) (any, error) { return p.IPAM.Reservations(), nil })
	s.HandleChange("/addresses/reserve", func(r *http.Request) (any, error) {
		v, err := p.reservation(r.URL.Query(), "name", "mac")
		if err == nil {
			err = p.IPAM.Reserve(r.Context(), v)
		}
		if err != nil {
			return nil, coded(err)
		}
		p.Log.Info("an address is reserved", "pool", v.Pool, "address", v.Addr, "for", v.Key)
		return v, nil
	})
	s.HandleChange("/addresses/unreserve", func(r *http.Request) (any, error) {
		v, err := p.reservation(r.URL.Query())
		if err == nil {
			err = p.IPAM.Unreserve(r.Context(), v.Pool, v.Addr)
		}
		if err != nil {
			return nil, coded(err)
		}
		p.Log.Info("a reservation is taken back", "pool", v.Pool, "address", v.Addr)
		return map[string]bool{"unreserved": true}, nil
	})
}

// errAsked wraps what is wrong with a question.
var errAsked = errors.New("not done")

// coded gives an error the HTTP status that it means.
func coded(err error) error {
	for code, is := range map[int][]error{
		http.StatusBadRequest: {errAsked, ipam.ErrUnsuitable},
		http.StatusNotFound:   {ipam.ErrNoPool, ipam.ErrNoReservation, network.ErrNotFound},
		http.StatusConflict:   {ipam.ErrReserved},
	} {
		for _, e := range is {
			if errors.Is(err, e) {
				return &shared.Error{Code: code, Err: err}
			}
		}
	}
	return err
}

// reservation reads the address, the network or pool that it is of, and one of
// the ways to say who it is for.
func (p *Plugin) reservation(q url.Values, who ...string) (ipam.Reservation, error) {
	known := append([]string{"address", "network", "pool"}, who...)
	for key := range q {
		if !slices.Contains(known, key) {
			return ipam.Reservation{}, fmt.Errorf("%w: unknown parameter %q; there are %q", errAsked, key, known)
		}
	}
	a, err := netip.ParseAddr(q.Get("address"))
	if err != nil || a.Zone() != "" {
		return ipam.Reservation{}, fmt.Errorf("%w: address=%q is not an address", errAsked, q.Get("address"))
	}
	r := ipam.Reservation{Addr: a.Unmap()}
	if r.Pool, err = p.poolOf(q.Get("network"), q.Get("pool"), r.Addr); err != nil {
		return ipam.Reservation{}, err
	}
	if len(who) > 0 {
		r.Key, err = keyOf(q.Get("name"), q.Get("mac"))
	}
	return r, err
}

// keyOf is the key of a container with that name, or with that MAC.
func keyOf(name, mac string) (string, error) {
	if (name == "") == (mac == "") {
		return "", fmt.Errorf("%w: one of name=, the container's, and mac= is needed", errAsked)
	}
	if name != "" {
		return ipam.Key(name, nil), nil
	}
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 {
		return "", fmt.Errorf("%w: mac=%q is not that of an Ethernet interface", errAsked, mac)
	}
	return ipam.Key("", hw), nil
}

// poolOf returns the prefix of the pool that is named, or of that of the network
// which has the address.
func (p *Plugin) poolOf(id, pool string, a netip.Addr) (netip.Prefix, error) {
	if (id == "") == (pool == "") {
		return netip.Prefix{}, fmt.Errorf("%w: one of network=, its id, and pool=, its subnet, is needed", errAsked)
	}
	if pool != "" {
		prefix, err := netip.ParsePrefix(pool)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%w: pool=%q is not a subnet", errAsked, pool)
		}
		return prefix.Masked(), nil
	}
	d, err := p.Networks.Find(id)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, own := range d.Pools {
		if own.Prefix.Contains(a) {
			return own.Prefix, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: address %s is in no subnet of network %s", errAsked, a, network.Short(d.ID))
}
