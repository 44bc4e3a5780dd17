package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// refusedError is a server's NAK.
type refusedError struct {
	server netip.Addr
	says   string // option 56
}

func (e *refusedError) Error() string {
	text := fmt.Sprintf("DHCP server %s refused the address (NAK)", e.server)
	if e.says != "" {
		text += fmt.Sprintf(": %q", e.says)
	}
	return text
}

func refused(r *Reply) *refusedError {
	server, _ := toAddr(r.ServerIdentifier())
	return &refusedError{server: server, says: r.Message()}
}

// fits says why an offer is of no use.
type fits func(a netip.Addr, t Terms) error

// afterBad is how long a good offer may still come after one of no use.
const afterBad = time.Second

// discover asks all servers for an address (RFC 2131, 4.4.1), for a certain one
// where that is valid, and takes the first offer that fits.
func (w *wire) discover(ctx context.Context, c client, addr netip.Addr, pauses []time.Duration, fit fits) (offered netip.Addr, t Terms, err error) {
	var options []dhcpv4.Option
	if addr.IsValid() {
		options = append(options, requested(addr))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var last *time.Timer
	var sent time.Time
	err = w.ask(ctx, newXID(), pauses, func(_, secs int) (path, *dhcpv4.DHCPv4) {
		sent = time.Now()
		return toAll(c.MAC), c.message(dhcpv4.MessageTypeDiscover, secs, options...)
	}, func(r *Reply) bool {
		if r.MessageType() != dhcpv4.MessageTypeOffer {
			return false
		}
		a, terms, bad := reading(r, sent)
		if bad == nil {
			bad = fit(a, terms)
		}
		if bad != nil {
			if last == nil {
				bad = fmt.Errorf("the offer of DHCP server %s cannot be used: %w", r.ServerIdentifier(), bad)
				last = time.AfterFunc(afterBad, func() { cancel(bad) })
			}
			return false
		}
		offered, t = a, terms
		return true
	})
	if last != nil {
		last.Stop()
	}
	return offered, t, err
}

// request is a REQUEST of one of its four kinds (RFC 2131, 4.3.2). It returns
// what the server acknowledges; a *refusedError where it does not.
func (w *wire) request(ctx context.Context, c client, addr netip.Addr, k kind, pauses []time.Duration) (netip.Addr, Terms, error) {
	var sent time.Time
	var got netip.Addr
	var terms Terms
	var said error
	err := w.ask(ctx, newXID(), pauses, func(_, secs int) (path, *dhcpv4.DHCPv4) {
		sent = time.Now()
		p, m := toAll(c.MAC), c.message(dhcpv4.MessageTypeRequest, secs)
		k.fill(&p, m, addr)
		return p, m
	}, func(r *Reply) bool {
		switch r.MessageType() {
		case dhcpv4.MessageTypeAck:
			got, terms, said = reading(r, sent)
			return said == nil
		case dhcpv4.MessageTypeNak:
			if k.server.IsValid() && !k.server.Unmap().IsUnspecified() {
				if from, ok := toAddr(r.ServerIdentifier()); ok && from != k.server {
					return false // another server's, which was not asked
				}
			}
			said = refused(r)
			return true
		}
		return false
	})
	if err == nil || said != nil && errors.Is(err, errSilence) {
		err = said
	}
	return got, terms, err
}

// kind is what a REQUEST is sent for.
type kind struct {
	selecting bool       // of an offer
	owned     bool       // the client has the address: RENEW, REBIND
	server    netip.Addr // who is asked; invalid: everybody
	via       []byte     // his MAC: RENEW
}

func (k kind) fill(p *path, m *dhcpv4.DHCPv4, addr netip.Addr) {
	if !k.owned { // SELECTING and INIT-REBOOT
		m.UpdateOption(requested(addr))
		if k.selecting {
			m.UpdateOption(serverID(k.server))
		}
		return
	}
	m.ClientIPAddr = addr.AsSlice()
	m.SetUnicast()
	p.from = addr
	if len(k.via) > 0 {
		p.to, p.toMAC = k.server, k.via
	}
}

// release gives an address back (RFC 2131, 4.4.6). Nobody answers that.
func (w *wire) release(c client, addr netip.Addr, t Terms) error {
	m := c.message(dhcpv4.MessageTypeRelease, 0, serverID(t.Server))
	m.ClientIPAddr = addr.AsSlice()
	p := path{c.MAC, broadcast, addr, t.Server}
	if len(t.ServerMAC) > 0 {
		p.toMAC = t.ServerMAC
	}
	m.TransactionID = newXID()
	return w.send(p, m)
}

// decline says that another machine has an address (RFC 2131, 4.4.1).
func (w *wire) decline(c client, addr netip.Addr, t Terms) error {
	m := c.message(dhcpv4.MessageTypeDecline, 0, requested(addr), serverID(t.Server))
	m.TransactionID = newXID()
	return w.send(toAll(c.MAC), m)
}
