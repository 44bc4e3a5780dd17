package trace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/dockline/dockline/netdriver/kernel"
)

// space is a namespace that is looked into.
type space struct {
	node   string
	path   string // of the sandbox
	k      *kernel.Kernel
	way    *kernel.Way
	noWay  string
	before sample
	after  sample
}

// sample is what a namespace has counted at one time.
type sample struct {
	links map[string]kernel.LinkState
	stats map[string]int64
	drops []kernel.Drop
	blind error // why its firewall could not be looked at, or not all of it
}

func (s *space) sample() (sample, error) {
	var out sample
	var err1 error
	out.links, err1 = s.k.LinkStates()
	out.drops, out.blind = s.k.Drops() // a rule that cannot be read hides no other fault
	err2 := s.k.Within(func() error {
		out.stats = stats()
		return nil
	})
	return out, errors.Join(err1, err2)
}

// counted are the kernel's counters that tell where in a namespace packets
// ended (proc_net_snmp(5)).
var counted = map[string]bool{
	"Icmp:InEchos": true, "Icmp:OutEchoReps": true, "Icmp:InEchoReps": true, "Icmp:OutEchos": true, "Icmp:InErrors": true,
	"Ip:ForwDatagrams": true, "Ip:InDiscards": true, "Ip:OutDiscards": true, "Ip:OutNoRoutes": true, "Ip:InAddrErrors": true,
	"Ip:FragFails": true, "TcpExt:IPReversePathFilter": true,
	"Icmp6InEchos": true, "Icmp6OutEchoReplies": true, "Icmp6InEchoReplies": true, "Icmp6OutEchos": true,
	"Ip6InDiscards": true, "Ip6OutDiscards": true, "Ip6OutNoRoutes": true, "Ip6InNoRoutes": true, "Ip6OutForwDatagrams": true,
}

// stats reads the counters of the calling thread's namespace. A file that is not
// there has none.
func stats() map[string]int64 {
	all := map[string]int64{}
	for _, name := range []string{"snmp", "netstat"} {
		text, _ := os.ReadFile("/proc/thread-self/net/" + name)
		pairs(text, all)
	}
	text, _ := os.ReadFile("/proc/thread-self/net/snmp6")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && counted[f[0]] {
			all[f[0]], _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return all
}

// pairs reads lines of names, each followed by one of their values.
func pairs(text []byte, into map[string]int64) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	var names []string
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || len(names) == 0 || names[0] != f[0] {
			names = f
			continue
		}
		for i := 1; i < min(len(f), len(names)); i++ {
			if name := f[0] + names[i]; counted[name] {
				into[name], _ = strconv.ParseInt(f[i], 10, 64)
			}
		}
		names = nil
	}
}

// describe says what a namespace would do with a packet for the address.
func (s *space) describe(to netip.Addr) error {
	w, err := s.k.WayTo(to)
	switch {
	case errors.Is(err, kernel.ErrNoWay):
		s.noWay = err.Error()
	case err != nil:
		return err
	default:
		s.way = &w
	}
	return nil
}

// report is the node as it is shown, after the echoes.
func (s *space) report(to netip.Addr, of ...netip.Addr) (*Node, error) {
	n := &Node{Sandbox: s.path, NoWay: s.noWay, Neighbours: []Neighbour{}, Counted: map[string]int64{}}
	if s.way != nil {
		n.Way = &Way{To: to, Link: s.way.Link, Via: s.way.Via, Source: s.way.Source, Local: s.way.Local}
		of = append(of, n.Way.Next())
	}
	for name, v := range s.after.stats {
		if d := v - s.before.stats[name]; d != 0 {
			n.Counted[name] = d
		}
	}
	names, links := map[int]string{}, []string{}
	for name, l := range s.after.links {
		names[l.Index] = name
		if name != "lo" {
			links = append(links, name)
		}
		n.Addrs = append(n.Addrs, l.Addrs...)
	}
	entries, err1 := s.k.NeighbourEntries()
	for _, e := range entries {
		for i, a := range of {
			if e.Addr == a && !contains(of[:i], a) {
				n.Neighbours = append(n.Neighbours, Neighbour{Addr: a, Link: names[e.Link], MAC: e.MAC.String(), State: e.State})
			}
		}
	}
	var err2 error
	if s.node != Host { // which may have very many
		n.Routes, n.Rules, err2 = s.k.RouteText(to.Is6())
	}
	err3 := s.k.Within(func() error {
		n.Settings = settings(links)
		return nil
	})
	return n, errors.Join(err1, err2, err3)
}

func contains(all []netip.Addr, a netip.Addr) bool {
	for _, o := range all {
		if o == a {
			return true
		}
	}
	return false
}

// settings reads what of the calling thread's namespace has a say in whether a
// packet passes. Of each link there is the stricter one of its own and that of all.
func settings(links []string) map[string]string {
	all := map[string]string{}
	read := func(name string) int {
		text, err := os.ReadFile("/proc/sys/net/" + name)
		if err != nil {
			return -1
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return -1
		}
		return n
	}
	for _, name := range []string{"ipv4/ip_forward", "ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all", "ipv6/conf/all/forwarding", "bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
		if n := read(name); n >= 0 {
			all[name] = strconv.Itoa(n)
		}
	}
	for _, link := range links {
		for _, name := range []string{"rp_filter", "arp_ignore"} {
			if n := max(read("ipv4/conf/all/"+name), read("ipv4/conf/"+link+"/"+name)); n > 0 {
				all[fmt.Sprintf("ipv4/conf/%s/%s", link, name)] = strconv.Itoa(n)
			}
		}
		if n := read("ipv6/conf/" + link + "/disable_ipv6"); n > 0 {
			all["ipv6/conf/"+link+"/disable_ipv6"] = strconv.Itoa(n)
		}
	}
	return all
}
