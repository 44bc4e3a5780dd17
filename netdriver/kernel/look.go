package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// What is in this file looks at a namespace for whoever asks where packets
// stop. It takes a process that may enter namespaces, which the plugin may not.

// OpenAt returns a handle on the namespace that a file stands for, a /proc/PID/ns/net
// or what ip-netns(8) has. It needs CAP_SYS_ADMIN.
func OpenAt(path string, instance Instance) (*Kernel, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open the namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	type opened struct {
		k   *Kernel
		err error
	}
	done := make(chan opened, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			done <- opened{nil, fmt.Errorf("enter the namespace %s (are you root, on the host?): %w", path, err)}
			return
		}
		k, err := Open(instance)
		done <- opened{k, err}
	}()
	o := <-done
	return o.k, o.err
}

// ID is the number of the namespace's inode, the same for whoever looks at it.
func (k *Kernel) ID() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(k.ns), &st); err != nil {
		return 0, fmt.Errorf("look at the namespace: %w", err)
	}
	return st.Ino, nil
}

// TryLock takes the namespace's lock, which whoever looks into it may hold one at
// a time, and which goes with the handle; false: somebody has it.
func (k *Kernel) TryLock() (bool, error) {
	err := unix.Flock(int(k.ns), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("lock the namespace: %w", err)
	}
	return true, nil
}

// Unlock gives it back.
func (k *Kernel) Unlock() { _ = unix.Flock(int(k.ns), unix.LOCK_UN) }

// Where namespaces are to be found: those that processes are in, and those that
// have a name.
var namespaceFiles = []string{"/proc/[0-9]*/ns/net", "/run/docker/netns/*", "/var/run/docker/netns/*", "/run/netns/*"}

// Sandbox returns a file that stands for the other namespace in which a link with
// that alias is, "" where it is in none that is found.
func (k *Kernel) Sandbox(alias string) (path string, err error) {
	ids, err := k.namespaces()
	if err != nil {
		return "", err
	}
	self, err := k.ownID() // where the other end of a pair is, which has the same alias
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		if id == self {
			continue
		}
		links, err := k.linksIn(id)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(links, func(l Link) bool { return l.Alias == alias }) {
			return k.fileOf(id)
		}
	}
	return "", nil
}

// fileOf finds a file that stands for the namespace with that id in this one.
func (k *Kernel) fileOf(id int) (string, error) {
	looked := map[uint64]bool{}
	for _, pattern := range namespaceFiles {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for namespaces: %w", err)
		}
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				continue // a process that has ended, or one that may not be looked at
			}
			var st unix.Stat_t
			err = unix.Fstat(int(f.Fd()), &st)
			if err == nil && !looked[st.Ino] {
				looked[st.Ino] = true
				var found int
				if found, err = k.idOf(f); err == nil && found == id {
					_ = f.Close()
					return file, nil
				}
			}
			_ = f.Close()
		}
	}
	return "", nil
}

// idOf returns the id that a namespace has in this one.
func (k *Kernel) idOf(file *os.File) (int, error) {
	ae := mdnetlink.NewAttributeEncoder()
	ae.Uint32(nsFDAttr, uint32(file.Fd())) //nolint:gosec // a file descriptor
	attrs, err := ae.Encode()
	if err != nil {
		return 0, fmt.Errorf("encode a request: %w", err)
	}
	msgs, err := k.request("a namespace", unix.RTM_GETNSID, 0, append(make([]byte, sizeofRtgen), attrs...))
	if err != nil {
		return 0, err
	}
	ids, err := readIDs(msgs)
	if err == nil && len(ids) != 1 {
		err = fmt.Errorf("look for a namespace: got %d answers", len(ids))
	}
	if err != nil {
		return 0, err
	}
	return ids[0], nil
}

// LinkState is a link with all that says whether packets pass it.
type LinkState struct {
	Link
	Carrier  bool // frames get through to what is behind it
	NoARP    bool // it neither asks nor answers
	Addrs    []netip.Prefix
	Counters Counters
	Queued   uint64 // what its queueing disciplines have dropped: a full queue, a limit
}

// LinkStates returns all links of the namespace, by name.
func (k *Kernel) LinkStates() (map[string]LinkState, error) {
	links, err := dump("links", k.h.LinkList)
	if err != nil {
		return nil, err
	}
	addrs, err := dump("addresses", func() ([]netlink.Addr, error) { return k.h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	queues, err := dump("queues", func() ([]netlink.Qdisc, error) { return k.h.QdiscList(nil) })
	if err != nil {
		return nil, err
	}
	dropped := map[int]uint64{}
	for _, q := range queues {
		a := q.Attrs() // one that others stand on counts what those drop, too
		if s := a.Statistics; s != nil && s.Queue != nil && (a.Parent == netlink.HANDLE_ROOT || a.Parent == netlink.HANDLE_INGRESS) {
			dropped[a.LinkIndex] += uint64(s.Queue.Drops)
		}
	}
	by := make(map[string]LinkState, len(links))
	for _, l := range links {
		a := l.Attrs()
		s := LinkState{Queued: dropped[a.Index], Link: fromLibrary(l), Counters: counters(l), Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0, NoARP: a.RawFlags&unix.IFF_NOARP != 0}
		for _, addr := range addrs {
			if p, ok := fromIPNet(addr.IPNet); ok && addr.LinkIndex == a.Index {
				s.Addrs = append(s.Addrs, p)
			}
		}
		by[a.Name] = s
	}
	return by, nil
}

// Way is what the kernel does with a packet for a destination.
type Way struct {
	Link   string
	Via    netip.Addr // invalid: the destination is on the link
	Source netip.Addr // invalid: not said
	MTU    int        // that it knows of; 0: the link's
	Local  bool       // the destination is the namespace's own
}

// ErrNoWay says that the kernel would send a packet nowhere.
var ErrNoWay = errors.New("no route")

// WayTo asks the kernel how it would send to an address. An error is ErrNoWay
// where it would not, with its reason.
func (k *Kernel) WayTo(to netip.Addr) (Way, error) {
	routes, err := k.h.RouteGet(net.IP(to.AsSlice()))
	var why string
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		why = "no route leads there"
	case errors.Is(err, unix.EHOSTUNREACH):
		why = "a route says unreachable"
	case errors.Is(err, unix.EINVAL):
		why = "a route says blackhole"
	case errors.Is(err, unix.EACCES):
		why = "a route says prohibit"
	case err != nil:
		return Way{}, fmt.Errorf("ask for the route to %s: %w", to, err)
	case len(routes) == 0:
		why = "no route leads there"
	}
	if why != "" {
		return Way{}, fmt.Errorf("%w to %s: %s", ErrNoWay, to, why)
	}
	r := routes[0]
	w := Way{MTU: r.MTU, Local: r.Type == unix.RTN_LOCAL}
	w.Source, w.Via = addrOf(r.Src), addrOf(r.Gw)
	if r.Via != nil { // by a next hop of the other family
		if via, ok := r.Via.(*netlink.Via); ok {
			w.Via = addrOf(via.Addr)
		}
	}
	l, err := k.h.LinkByIndex(r.LinkIndex)
	if err != nil {
		return Way{}, fmt.Errorf("look up the link to %s: %w", to, err)
	}
	w.Link = l.Attrs().Name
	return w, nil
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// RouteText returns the routes of all tables but the kernel's own, and the rules
// that choose among the tables, for people.
func (k *Kernel) RouteText(v6 bool) (routes, rules []string, err error) {
	family := netlink.FAMILY_V4
	if v6 {
		family = netlink.FAMILY_V6
	}
	links, err := k.Links()
	if err != nil {
		return nil, nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	all, err := dump("routes", func() ([]netlink.Route, error) {
		return k.h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		if r.Table != unix.RT_TABLE_LOCAL && r.Type != unix.RTN_MULTICAST {
			routes = append(routes, routeText(r, names))
		}
	}
	chosen, err := dump("rules", func() ([]netlink.Rule, error) { return k.h.RuleList(family) })
	if err != nil {
		return nil, nil, err
	}
	for _, r := range chosen {
		rules = append(rules, strings.TrimSpace(strings.TrimPrefix(r.String(), "ip rule ")))
	}
	return routes, rules, nil
}

func routeText(r netlink.Route, names map[int]string) string {
	words := []string{}
	kinds := map[int]string{unix.RTN_UNREACHABLE: "unreachable", unix.RTN_BLACKHOLE: "blackhole", unix.RTN_PROHIBIT: "prohibit"}
	if kind := kinds[r.Type]; kind != "" {
		words = append(words, kind)
	}
	if dst, ok := fromIPNet(r.Dst); !ok || dst.Bits() == 0 {
		words = append(words, "default")
	} else {
		words = append(words, dst.String())
	}
	if gw := addrOf(r.Gw); gw.IsValid() {
		words = append(words, "via", gw.String())
	}
	if name := names[r.LinkIndex]; name != "" {
		words = append(words, "dev", name)
	}
	for _, hop := range r.MultiPath {
		words = append(words, "nexthop", addrOf(hop.Gw).String(), "dev", names[hop.LinkIndex])
	}
	if src := addrOf(r.Src); src.IsValid() {
		words = append(words, "src", src.String())
	}
	if r.Table != unix.RT_TABLE_MAIN {
		words = append(words, fmt.Sprintf("table %d", r.Table))
	}
	if r.Priority != 0 {
		words = append(words, fmt.Sprintf("metric %d", r.Priority))
	}
	return strings.Join(words, " ")
}

// NeighbourEntry is what the kernel knows of who has an address.
type NeighbourEntry struct {
	Addr  netip.Addr
	Link  int
	MAC   net.HardwareAddr // nil: not known
	State string           // as ip-neighbour(8) says it
}

// NeighbourEntries returns the namespace's neighbour table.
func (k *Kernel) NeighbourEntries() ([]NeighbourEntry, error) {
	all, err := dump("neighbours", func() ([]netlink.Neigh, error) { return k.h.NeighList(0, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	states := map[int]string{
		netlink.NUD_INCOMPLETE: "INCOMPLETE", netlink.NUD_REACHABLE: "REACHABLE", netlink.NUD_STALE: "STALE", netlink.NUD_DELAY: "DELAY",
		netlink.NUD_PROBE: "PROBE", netlink.NUD_FAILED: "FAILED", netlink.NUD_NOARP: "NOARP", netlink.NUD_PERMANENT: "PERMANENT",
	}
	var entries []NeighbourEntry
	for _, n := range all {
		if a := addrOf(n.IP); a.IsValid() && n.Family != unix.AF_BRIDGE {
			entries = append(entries, NeighbourEntry{Addr: a, Link: n.LinkIndex, MAC: n.HardwareAddr, State: states[n.State]})
		}
	}
	return entries, nil
}

// Forwarding is an entry of a bridge's forwarding table.
type Forwarding struct {
	MAC    net.HardwareAddr
	Port   int // index of the link behind which it is
	Bridge int
	VLAN   int
	Own    bool // the port's own address, or one that somebody wrote down
}

// Forwardings returns what the namespace's bridges know of a hardware address.
func (k *Kernel) Forwardings(mac net.HardwareAddr) ([]Forwarding, error) {
	var found []Forwarding
	err := k.eachForwarding(0, func(n *netlink.Neigh) {
		if n.MasterIndex != 0 && string(n.HardwareAddr) == string(mac) {
			found = append(found, Forwarding{MAC: n.HardwareAddr, Port: n.LinkIndex, Bridge: n.MasterIndex, VLAN: n.Vlan, Own: n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0})
		}
	})
	return found, err
}
