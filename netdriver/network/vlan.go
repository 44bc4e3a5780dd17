package network

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dockline/dockline/netdriver/kernel"
)

// A sub-interface of ours is there as long as a network needs it. Nothing is
// stored of it but in the networks' own definitions: what is ours says its alias.

func (m *Manager) ensureVLAN(d Definition) error {
	if d.VLAN == nil {
		return nil
	}
	err := m.host.EnsureVLAN(kernel.VLAN{
		Name: d.Parent, Alias: m.host.VLANAlias(d.VLAN.Base, d.VLAN.ID), Parent: d.VLAN.Base, ID: d.VLAN.ID,
	})
	if err != nil {
		return fmt.Errorf("set up VLAN %d of network %s: %w", d.VLAN.ID, Short(d.ID), err)
	}
	return nil
}

// checkVLAN checks what a sub-interface is to be made of, and returns the
// sub-interface as it is or will be.
func (m *Manager) checkVLAN(d Definition, links []kernel.Link) (kernel.Link, error) {
	at := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == d.VLAN.Base })
	if at < 0 {
		return kernel.Link{}, fmt.Errorf("link %q: %w", d.VLAN.Base, kernel.ErrNoLink)
	}
	base := links[at]
	switch {
	case kernel.IsAlias(base.Alias):
		return kernel.Link{}, bad(keyParent, d.Parent, "%q belongs to another network of this driver", base.Name)
	case base.Type == "loopback" || base.Name == "lo":
		return kernel.Link{}, bad(keyParent, d.Parent, "the loopback interface leads nowhere; this host has %s", candidates(links))
	}
	if err := checkEthernet(base, links); err != nil {
		return kernel.Link{}, err
	}
	if at := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == d.Parent }); at >= 0 {
		l := links[at]
		if l.VLAN != d.VLAN.ID || l.Parent != base.Index {
			return kernel.Link{}, bad(keyVLAN, fmt.Sprint(d.VLAN.ID), "an interface named %q exists already (a %s) and is not that VLAN of %q", l.Name, l.Type, base.Name)
		}
		return l, nil
	}
	return kernel.Link{Name: d.Parent, Type: "vlan", MTU: base.MTU, MAC: base.MAC, Parent: base.Index, VLAN: d.VLAN.ID}, nil
}

// SweepVLANs removes the sub-interfaces of ours that no network needs, and what
// a crash has left of one in the making, if there are such among the links.
func (m *Manager) SweepVLANs(links []kernel.Link) error {
	if unneeded, drafts := m.strayVLANs(links); len(unneeded)+len(drafts) == 0 {
		return nil
	}
	m.change.Lock()
	defer m.change.Unlock()
	return m.sweepVLANs()
}

// sweepVLANs looks at the links afresh; change is held, so that none is made
// meanwhile. One that somebody else has begun to use is theirs from then on.
func (m *Manager) sweepVLANs() error {
	links, err := m.host.Links()
	if err != nil {
		return err
	}
	var errs []error
	unneeded, drafts := m.strayVLANs(links)
	for _, l := range unneeded {
		errs = append(errs, m.removeVLAN(l, links))
	}
	for _, l := range drafts {
		errs = append(errs, m.host.DeleteOwned(l.Name, l.Alias))
	}
	return errors.Join(errs...)
}

func (m *Manager) strayVLANs(links []kernel.Link) (unneeded, drafts []kernel.Link) {
	needed := map[string]bool{}
	for _, d := range m.List() {
		if d.VLAN != nil {
			needed[m.host.VLANAlias(d.VLAN.Base, d.VLAN.ID)] = true
		}
	}
	for _, l := range links {
		switch {
		case m.host.OwnsVLAN(l.Alias) && !needed[l.Alias]:
			unneeded = append(unneeded, l)
		case l.VLAN != 0 && l.Name == kernel.VLANDraftName(m.host.VLANAlias(nameOf(links, l.Parent), l.VLAN)):
			drafts = append(drafts, l)
		}
	}
	return unneeded, drafts
}

func (m *Manager) removeVLAN(l kernel.Link, links []kernel.Link) error {
	addrs, err := m.host.Addrs(l.Name)
	if errors.Is(err, kernel.ErrNoLink) {
		return nil
	} else if err != nil {
		return err
	}
	used := l.Master != 0 || len(addrs) > 0 || slices.ContainsFunc(links, func(other kernel.Link) bool {
		return other.Parent == l.Index && other.Type != "veth" && !kernel.IsAlias(other.Alias) // what is ours goes with it
	})
	if used {
		m.log.Warn("leaving a VLAN sub-interface to whoever else uses it now", "link", l.Name)
		return m.host.Disown(l.Name, l.Alias)
	}
	m.log.Info("removing a VLAN sub-interface that no network needs any more", "link", l.Name)
	return m.host.DeleteOwned(l.Name, l.Alias)
}
