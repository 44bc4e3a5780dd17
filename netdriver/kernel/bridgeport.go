package kernel

import (
	"fmt"
	"net"
	"strconv"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/failpoint"
)

// Port says how a port of a bridge behaves. The zero value is the kernel's own
// choice: it learns, takes everything that is flooded, sends nothing back where
// it came from and reaches every other port.
type Port struct {
	Hairpin          bool `json:",omitempty"` // frames may leave by the port they came by
	Isolated         bool `json:",omitempty"` // no frames between this and other isolated ports
	NoLearning       bool `json:",omitempty"` // the bridge knows the port's own MAC only
	NoUnicastFlood   bool `json:",omitempty"` // none for a MAC that the bridge does not know
	NoMulticastFlood bool `json:",omitempty"`
	NoBroadcastFlood bool `json:",omitempty"`
}

// Told reports whether the bridge has to be told who is at the port: it would
// not find out, or send nothing to whom it does not know.
func (p Port) Told() bool { return p.NoLearning || p.NoUnicastFlood }

// SetPort makes a port of a bridge behave so. A port that is not to learn, or
// not to get what is flooded, could not be found: its MAC is then told to the
// bridge. A port that was just made one needs no call for the zero Port.
func (k *Kernel) SetPort(name string, p Port, mac net.HardwareAddr) error {
	l, err := k.byName(name)
	if err != nil {
		return err
	}
	if err := k.setPortFlags(l, p); err != nil {
		return fmt.Errorf("set how port %q behaves: %w", name, err)
	}
	if len(mac) == 0 || !p.Told() {
		return nil
	}
	return k.tellBridge(l, mac)
}

// tellBridge has a bridge know that a MAC is at a port, and nowhere else, for as
// long as there is the port. One that it may forget can be told only of a port
// that works already (net/bridge/br_fdb.c, fdb_add_entry).
func (k *Kernel) tellBridge(l netlink.Link, mac net.HardwareAddr) error {
	err := k.h.NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: mac,
		Flags: unix.NTF_MASTER, State: netlink.NUD_NOARP, // bridge(8): master static
	})
	if err != nil {
		return fmt.Errorf("tell the bridge that %s is at port %q: %w", mac, l.Attrs().Name, err)
	}
	return nil
}

// setPortFlags says all in one message; the library has a call for each, and
// for two of them none.
func (k *Kernel) setPortFlags(l netlink.Link, p Port) error {
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(l.Attrs().Index) //nolint:gosec // the kernel's own, an int32 there
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for _, flag := range p.flags() {
		value := uint8(0)
		if *flag.is != flag.negate {
			value = 1
		}
		info.AddRtAttr(flag.attr, nl.Uint8Attr(value))
	}
	_, err := k.rawRequest(unix.RTM_SETLINK, unix.NLM_F_ACK, msg, info)
	return err
}

// portFlag is one of a port's in the kernel's words (linux/if_link.h).
type portFlag struct {
	attr   int
	is     *bool
	negate bool // the kernel says it the other way round
}

func (p *Port) flags() []portFlag {
	return []portFlag{
		{nl.IFLA_BRPORT_MODE, &p.Hairpin, false},
		{nl.IFLA_BRPORT_ISOLATED, &p.Isolated, false},
		{nl.IFLA_BRPORT_LEARNING, &p.NoLearning, true},
		{nl.IFLA_BRPORT_UNICAST_FLOOD, &p.NoUnicastFlood, true},
		{nl.IFLA_BRPORT_MCAST_FLOOD, &p.NoMulticastFlood, true},
		{nl.IFLA_BRPORT_BCAST_FLOOD, &p.NoBroadcastFlood, true},
	}
}

// BridgePorts returns how the ports of all bridges behave, by the index of the
// link.
func (k *Kernel) BridgePorts() (map[int]Port, error) {
	all, err := k.rawDump("ports of bridges", unix.RTM_GETLINK, nl.NewIfInfomsg(unix.AF_BRIDGE))
	if err != nil {
		return nil, err
	}
	ports := make(map[int]Port, len(all))
	for _, raw := range all {
		if len(raw) < unix.SizeofIfInfomsg {
			continue
		}
		const indexAt = 4 // struct ifinfomsg
		p, found, err := readPort(raw[unix.SizeofIfInfomsg:])
		if err != nil {
			return nil, fmt.Errorf("list ports of bridges: %w", err)
		}
		if found {
			ports[int(native.Uint32(raw[indexAt:]))] = p
		}
	}
	return ports, nil
}

func readPort(attrs []byte) (p Port, found bool, err error) {
	ad, err := mdnetlink.NewAttributeDecoder(attrs)
	if err != nil {
		return Port{}, false, fmt.Errorf("read a port: %w", err)
	}
	for ad.Next() {
		if ad.Type() != unix.IFLA_PROTINFO {
			continue
		}
		found = true
		ad.Nested(func(nested *mdnetlink.AttributeDecoder) error {
			for nested.Next() {
				for _, flag := range p.flags() {
					if int(nested.Type()) == flag.attr {
						*flag.is = (nested.Uint8() != 0) != flag.negate
					}
				}
			}
			return nil
		})
	}
	if err := ad.Err(); err != nil {
		return Port{}, false, fmt.Errorf("read a port: %w", err)
	}
	return p, found, nil
}

// rawRequest sends a request that the library has no call for.
func (k *Kernel) rawRequest(kind, flags int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	answer, err := k.execute(kind, flags, data...)
	if flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP {
		failpoint.Hit("kernel", "request", strconv.Itoa(kind))
	}
	return answer, err
}

func (k *Kernel) execute(kind, flags int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.raw}
	for _, d := range data {
		req.AddData(d)
	}
	return req.Execute(unix.NETLINK_ROUTE, 0) //nolint:wrapcheck // the caller says what for
}

// ForeignPorts are those of a bridge that are not ours and are up, of which any
// may lead to a wire, and a virtual machine is one too.
func (k *Kernel) ForeignPorts(bridge Link) (ports []*net.Interface, err error) {
	all, err := k.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if _, ours := k.Owner(l.Alias); !ours && l.Master == bridge.Index && l.Up {
			ports = append(ports, l.Interface())
		}
	}
	return ports, nil
}
