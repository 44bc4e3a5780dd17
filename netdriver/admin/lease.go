package admin

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/network"
)

// Lease is one of a DHCP server's.
type Lease struct {
	Address  netip.Addr `json:"address"`
	MAC      string     `json:"mac"`
	ClientID string     `json:"client_id"` // in hexadecimal
	HostName string     `json:"host_name,omitempty"`
	// State is bound, idle (its container has ended and may come back) or lost.
	State  dhcp.State `json:"state"`
	Since  time.Time  `json:"since"`
	Why    string     `json:"why,omitempty"` // it is lost
	Server netip.Addr `json:"server"`
	Renews time.Time  `json:"renews"`
	Ends   time.Time  `json:"ends"`
}

// leases are those on a network's pools, and what of them is an alarm.
func (p *Plugin) leases(d network.Definition) (all []Lease, lost []string) {
	if p.Leases == nil {
		return nil, nil
	}
	for _, l := range p.Leases.Leases() {
		if !slices.ContainsFunc(d.Pools, func(of network.Pool) bool { return of.Prefix == l.Pool.Prefix }) {
			continue
		}
		all = append(all, Lease{
			Address: l.Addr, MAC: l.MAC.String(), ClientID: fmt.Sprintf("%x", l.ClientID), HostName: l.HostName,
			State: l.State, Since: l.Since, Why: l.Why, Server: l.Server, Renews: l.Obtained.Add(l.Renew), Ends: l.Expires(),
		})
		if l.State == dhcp.Lost {
			lost = append(lost, fmt.Sprintf("the DHCP lease of %s is lost: %s", l.Addr, l.Why))
		}
	}
	return all, lost
}

func (m *metrics) leases(ch chan<- prometheus.Metric, n Network) {
	if len(n.Leases) == 0 {
		return
	}
	states := map[dhcp.State]int{dhcp.Bound: 0, dhcp.Idle: 0, dhcp.Lost: 0}
	for _, l := range n.Leases {
		states[l.State]++
	}
	for state, of := range states {
		Metrics.Put(ch, "dhcp_leases", float64(of), network.Short(n.ID), string(state))
	}
}

func (m *metrics) leaseEvents(ch chan<- prometheus.Metric) {
	if m.p.Leases == nil {
		return
	}
	s := &m.p.Leases.Stats
	for event, n := range map[string]uint64{
		"leased": s.Leased.Load(), "resumed": s.Resumed.Load(), "renewed": s.Renewed.Load(), "server_changed": s.Moved.Load(),
		"refused": s.Refused.Load(), "declined": s.Declined.Load(), "lost": s.Lost.Load(), "released": s.Released.Load(), "unanswered": s.Silent.Load(),
	} {
		Metrics.Put(ch, "dhcp_events_total", float64(n), event)
	}
}
