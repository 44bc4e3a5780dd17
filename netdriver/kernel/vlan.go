package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// VLAN describes an 802.1Q sub-interface.
type VLAN struct {
	Name, Alias string
	Parent      string
	ID          int
}

// EnsureVLAN makes the sub-interface if it is missing, and brings it and its
// parent up. One that is there already stays its owner's; a link of that name
// that is something else is ErrNotOurs.
//
// It gets its alias under a name of ours and then its own: wherever a crash cuts
// that off, what is left is known to be ours. The host has no address on it, not
// even one that the kernel makes.
func (k *Kernel) EnsureVLAN(v VLAN) error {
	if err := k.SetUp(v.Parent); err != nil {
		return fmt.Errorf("bring up the interface below VLAN %d: %w", v.ID, err)
	}
	parent, err := k.Link(v.Parent)
	if err != nil {
		return err
	}
	switch l, err := k.Link(v.Name); {
	case err == nil && (l.VLAN != v.ID || l.Parent != parent.Index):
		return fmt.Errorf("make VLAN %d of %q: %q is a %s already: %w", v.ID, v.Parent, v.Name, l.Type, ErrNotOurs)
	case err == nil && l.Alias == v.Alias:
		return k.SetUp(v.Name)
	case err == nil && (l.Alias != "" || !ownName.MatchString(v.Name)):
		return k.SetUp(v.Name)
	case err != nil && !errors.Is(err, ErrNoLink):
		return err
	}
	return k.makeVLAN(v, parent)
}

func (k *Kernel) makeVLAN(v VLAN, parent Link) error {
	draft := VLANDraftName(v.Alias)
	for _, name := range []string{draft, v.Name} {
		if err := k.DeleteOwned(name, v.Alias); err != nil {
			return fmt.Errorf("clear away an earlier VLAN %d: %w", v.ID, err)
		}
	}
	attrs := newAttrs(draft, nil, 0)
	attrs.ParentIndex = parent.Index
	l := &netlink.Vlan{LinkAttrs: attrs, VlanId: v.ID, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	if err := k.h.LinkAdd(l); err != nil {
		return fmt.Errorf("make VLAN %d of %q: %w", v.ID, v.Parent, err)
	}
	if err := k.claim(l, v.Alias); err != nil {
		return err
	}
	err := k.noAutoAddr(l)
	if err == nil {
		err = k.h.LinkSetName(l, v.Name)
	}
	if err == nil {
		err = k.h.LinkSetUp(l)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("set up VLAN %q: %w", v.Name, err), k.h.LinkDel(l))
	}
	return nil
}

// Disown takes our alias off a link that somebody else has begun to use.
func (k *Kernel) Disown(name, alias string) error {
	l, err := k.byName(name)
	if err != nil {
		return err
	}
	if l.Attrs().Alias != alias {
		return nil
	}
	if err := k.h.LinkSetAlias(l, ""); err != nil {
		return fmt.Errorf("give up %q: %w", name, err)
	}
	return nil
}
