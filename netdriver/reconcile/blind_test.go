package reconcile

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// dark is a host without any link, whose sandboxes cannot always be looked into.
type dark struct {
	Host
	kernel.Instance
	looked       int
	blind, noise error
}

func (d *dark) Owner(alias string) (kernel.Owner, bool) { return d.Instance.Owner(alias) }
func (d *dark) Links() ([]kernel.Link, error)           { return nil, nil }
func (d *dark) Heard(string) (map[string]bool, error)   { return nil, d.noise }
func (d *dark) Elsewhere() ([]kernel.Elsewhere, error) {
	d.looked++
	return nil, d.blind
}

// removable is a host for endpoints, of which nothing is left.
type removable struct {
	endpoint.Host
}

func (removable) EndpointAlias(string, string) string { return "" }
func (removable) WireAlias(string, string) string     { return "" }
func (removable) DeleteOwned(string, string) error    { return nil }

// unreached is networks to which the host has no routes.
type unreached struct{ *network.Manager }

func (unreached) Unreach(network.Definition, []netip.Addr) error { return nil }

func TestWhatCouldNotBeLookedAtIsLookedAtSoon(t *testing.T) {
	for name, fault := range map[string]func(*dark, error){
		"sandboxes":  func(d *dark, err error) { d.blind = err },
		"the parent": func(d *dark, err error) { d.noise = err },
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			defs := table[network.Definition]{"n": {ID: "n", Mode: network.Macvlan, Parent: "nic0", Complete: true}}
			networks := must[*network.Manager](t)(network.NewManager(nil, defs, "ours", log))
			journal := table[endpoint.Endpoint]{"e": {ID: "e", Network: "n", Joined: true}}
			endpoints := must[*endpoint.Manager](t)(endpoint.NewManager(removable{}, journal, unreached{networks}, log))
			now, h := time.Now(), &dark{}
			fault(h, errors.New("cannot look"))
			r := &Reconciler{Host: h, Networks: networks, Endpoints: endpoints, Log: log, Now: func() time.Time { return now }}
			round := func(later time.Duration) (abandoned int) {
				now = now.Add(later)
				var rep Report
				if err := r.dropAbandoned(nil, &rep); err != nil {
					t.Fatal(err)
				}
				return rep.Abandoned
			}
			round(0)
			if n := round(Grace); n != 0 || h.looked != 1 {
				t.Errorf("abandoned %d, looked %d times", n, h.looked)
			}
			if n := round(time.Second); n != 0 || h.looked != 2 {
				t.Errorf("in the next round, abandoned %d, looked %d times", n, h.looked)
			}
			fault(h, nil)
			if n := round(time.Second); n != 1 {
				t.Errorf("when it can be looked at: abandoned %d", n)
			}
		})
	}
}
