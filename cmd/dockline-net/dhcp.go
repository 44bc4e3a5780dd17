package main

import (
	"log/slog"
	"net/netip"

	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/state"
	"github.com/dockline/dockline/netdriver/watch"
)

// addDHCP adds what leases addresses from DHCP servers.
func (b *backends) addDHCP(host *kernel.Kernel, kept *state.Dir, networks *network.Manager, endpoints *endpoint.Manager, wires *watch.Manager, log *slog.Logger) error {
	leases, err := state.Durable[dhcp.Lease](kept, "leases")
	if err != nil {
		return err
	}
	instance, err := kept.Instance()
	if err != nil {
		return err
	}
	boot, err := state.BootID()
	if err != nil {
		return err
	}
	b.dhcp, err = dhcp.New(dhcp.Config{
		Host: dhcp.OnKernel{Kernel: host, Networks: networks}, Leases: leases, Neighbours: wires,
		Endpoints: holders(endpoints), Ours: networks.OnPool,
		Instance: instance, Boot: boot, KeepAll: kept.JournalLost(), Log: log.With("backend", dhcp.Name),
	})
	b.all[dhcp.Name] = b.dhcp
	return err
}

// holders returns who has an address, by the endpoints there are.
func holders(endpoints *endpoint.Manager) func() map[netip.Addr]dhcp.Holder {
	return func() map[netip.Addr]dhcp.Holder {
		all := map[netip.Addr]dhcp.Holder{}
		for _, e := range endpoints.List() {
			for _, a := range e.Addrs() {
				all[a] = dhcp.Holder{MAC: e.MAC}
			}
		}
		return all
	}
}
