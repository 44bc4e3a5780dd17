// Package trace says in words why a container does not reach another container,
// an address or a host: it looks at both ends and at the host between them,
// asks by ARP or neighbour discovery, sends echoes and probes of the path's MTU
// from within the container's own namespace, compares counters before and
// after, and judges (Judge, a pure function) what it saw.
//
// It stands above kernel and neighbour. What the networks mean to have (Known)
// the plugin says, on its admin socket; the rest is done by whoever asks, who
// has to be root on the host (Ask): the plugin itself may enter no namespace,
// and is not to. It changes nothing, and sends only to the address that was
// asked for, to the gateway on the way there and, by one question, to itself.
package trace

import (
	"net/netip"
	"time"
)

// Known is what the plugin knows of both ends.
type Known struct {
	From Intended `json:"from"`
	To   Intended `json:"to"`
}

// Intended is what there is meant to be of an end.
type Intended struct {
	Asked    string     `json:"asked"`             // as it was asked for
	Addr     netip.Addr `json:"address,omitzero"`  // invalid: none is known
	Endpoint *Endpoint  `json:"endpoint"`          // null: it is no endpoint of ours
	Network  *Network   `json:"network,omitempty"` // of the endpoint
	// Record is what the cluster's records say of an address that is no endpoint's
	// of this host; null: nothing.
	Record *Record `json:"record,omitempty"`
}

// Record says which host of a cluster has an address, and for whom.
type Record struct {
	Host string `json:"host"`
	For  string `json:"for,omitempty"` // the container's name or MAC
}

// Endpoint is an endpoint as the plugin journals it.
type Endpoint struct {
	ID       string       `json:"id"`
	Joined   bool         `json:"joined"` // it is meant to be in a sandbox
	IPv4     netip.Prefix `json:"ipv4,omitzero"`
	IPv6     netip.Prefix `json:"ipv6,omitzero"`
	MAC      string       `json:"mac"`
	Alias    string       `json:"alias"`     // of its links
	HostLink string       `json:"host_link"` // the host's end of its pair; a macvlan endpoint has none
	// Differences are what is not as it is meant to be, in words.
	Differences []string `json:"differences"`
}

// Network is a network as far as packets concern it.
type Network struct {
	ID          string   `json:"id"`
	Mode        string   `json:"mode"` // bridge or macvlan
	Bridge      string   `json:"bridge,omitempty"`
	Parent      string   `json:"parent,omitempty"` // or uplink
	HostAccess  bool     `json:"host_access"`
	Internal    bool     `json:"internal"`
	Isolated    bool     `json:"isolated"` // its containers are not to reach each other
	Foreign     bool     `json:"foreign"`  // the bridge is its owner's, and has what uplink that one gave it
	Differences []string `json:"differences"`
}

// Where something was seen.
const (
	From = "A"
	Host = "host"
	To   = "B"
)

// Report is all that was seen, and what follows from it.
type Report struct {
	From   Intended `json:"from"`
	To     Intended `json:"to"`
	ToHost bool     `json:"to_is_host"` // B is the host itself
	// Nodes are the namespaces that could be looked into, by where they are: A, host, B.
	Nodes map[string]*Node `json:"nodes"`
	Hops  []Hop            `json:"hops"` // from A to B
	FDB   []Learned        `json:"fdb"`
	ARP   []Asked          `json:"arp"` // or neighbour discovery
	Ping  Ping             `json:"ping"`
	MTU   MTU              `json:"mtu"`
	Drops []Drop           `json:"firewall"`
	// Unseen is what could not be looked at, and why.
	Unseen  []string      `json:"unseen"`
	Took    time.Duration `json:"took_ns"`
	Verdict Verdict       `json:"verdict"`
}

// Node is a namespace on the way.
type Node struct {
	Sandbox    string            `json:"namespace,omitempty"` // a file that stands for it
	Addrs      []netip.Prefix    `json:"addresses"`
	Way        *Way              `json:"way"` // to the other end; from a host between them: to B; null: it does not send there
	NoWay      string            `json:"no_way,omitempty"`
	Routes     []string          `json:"routes,omitempty"` // the host's only where it routes
	Rules      []string          `json:"rules,omitempty"`
	Neighbours []Neighbour       `json:"neighbours"`
	Settings   map[string]string `json:"settings"` // sysctls that matter, without net.
	Counted    map[string]int64  `json:"counted"`  // by the namespace while the echoes were sent
}

// Way is how a namespace sends to an address.
type Way struct {
	To     netip.Addr `json:"to"`
	Link   string     `json:"link"`
	Via    netip.Addr `json:"via,omitzero"`
	Source netip.Addr `json:"source,omitzero"`
	Local  bool       `json:"local,omitempty"` // the address is the namespace's own
}

// Next is whom frames go to.
func (w *Way) Next() netip.Addr {
	if w.Via.IsValid() {
		return w.Via
	}
	return w.To
}

// Neighbour is an entry of a neighbour table after the echoes.
type Neighbour struct {
	Addr  netip.Addr `json:"address"`
	Link  string     `json:"link"`
	MAC   string     `json:"mac,omitempty"`
	State string     `json:"state"`
}

// The parts that links play.
const (
	Container = "container" // in the sandbox
	Port      = "port"      // the host's end of a pair
	Bridge    = "bridge"
	Parent    = "parent"   // of a macvlan network
	Uplink    = "uplink"   // of a bridge
	OwnLink   = "own link" // of a namespace that is the other end itself
)

// Hop is a link on the way.
type Hop struct {
	Node string `json:"node"` // A, host, B
	Side string `json:"side"` // whose network it belongs to: A, B, or both as AB
	Role string `json:"role"`
	Name string `json:"name"`

	Missing    bool           `json:"missing,omitempty"`
	Up         bool           `json:"up"`
	Carrier    bool           `json:"carrier"`
	NoARP      bool           `json:"noarp,omitempty"`
	MTU        int            `json:"mtu"`
	MAC        string         `json:"mac"`
	VLAN       int            `json:"vlan,omitempty"`
	Master     string         `json:"master,omitempty"`
	WantMaster string         `json:"want_master,omitempty"` // the bridge that it should be a port of
	Addrs      []netip.Prefix `json:"addresses,omitempty"`
	// Delta is what was counted while the echoes were sent.
	Delta Counters `json:"delta"`
	Total Counters `json:"total"`
	// Left is set where the link was there when the trace began, and is not any more.
	Left bool `json:"left,omitempty"`
}

// Counters are a link's, seen from the link.
type Counters struct {
	Rx        uint64 `json:"rx_packets"`
	RxDropped uint64 `json:"rx_dropped"`
	RxErrors  uint64 `json:"rx_errors"`
	Tx        uint64 `json:"tx_packets"`
	TxDropped uint64 `json:"tx_dropped"`
	TxErrors  uint64 `json:"tx_errors"`
	Queue     uint64 `json:"queue_dropped"` // by its queueing disciplines (tc), also on ingress
}

// Learned is where a bridge of the host has a hardware address.
type Learned struct {
	Of     string `json:"of"` // A or B
	MAC    string `json:"mac"`
	Bridge string `json:"bridge"`
	Port   string `json:"port"`
	Told   bool   `json:"told,omitempty"` // by somebody, not learnt from frames
}

// Asked is one address that was asked for on the wire, by A's link.
type Asked struct {
	Addr    netip.Addr `json:"address"`
	What    string     `json:"what"` // B, gateway, or A: its own address
	Sent    int        `json:"sent"`
	Answers []Answer   `json:"answers"`
	Fault   string     `json:"fault,omitempty"` // why it could not be asked
}

// Answer is who answered.
type Answer struct {
	MAC   string `json:"mac"`
	Count int    `json:"count"`
	Node  string `json:"node,omitempty"` // where there is a link with that MAC; "": in none that is looked into
}

// Ping is what became of the echoes from A to B.
type Ping struct {
	Sent     int           `json:"sent"`
	Received int           `json:"received"`
	Min      time.Duration `json:"min_ns"`
	Avg      time.Duration `json:"avg_ns"`
	Max      time.Duration `json:"max_ns"`
	Jitter   time.Duration `json:"jitter_ns"`       // mean difference of one to the next
	Fault    string        `json:"fault,omitempty"` // the kernel's refusal to send
	Blocked  bool          `json:"blocked,omitempty"`
	Errors   []Unreachable `json:"errors,omitempty"`
}

// Unreachable is an ICMP error that came back.
type Unreachable struct {
	From  netip.Addr `json:"from"`
	Code  string     `json:"code"`
	Count int        `json:"count"`
}

// The codes of Unreachable that Judge tells apart.
const (
	NetUnreachable  = "network unreachable"
	HostUnreachable = "host unreachable"
	Prohibited      = "administratively prohibited"
	TimeExceeded    = "time to live exceeded"
	OtherError      = "destination unreachable"
)

// MTU is what sizes of packets arrive, headers of IP included.
type MTU struct {
	Link int        `json:"link"`               // of A's link; more is never sent
	Path int        `json:"path"`               // the greatest that was answered; 0: not probed
	Told int        `json:"told,omitempty"`     // what an ICMP error said that fits
	By   netip.Addr `json:"told_by,omitzero"`   // who said it
	Size int        `json:"smallest,omitempty"` // what was not answered
}

// Drop is a place in a firewall at which packets end.
type Drop struct {
	Node    string `json:"node"`
	Family  string `json:"family"`
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Hook    string `json:"hook,omitempty"`
	Handle  uint64 `json:"handle,omitempty"` // 0: the chain's policy
	Legacy  bool   `json:"legacy,omitempty"` // of iptables in its legacy form; Handle is the rule's number then
	Verdict string `json:"verdict"`
	Comment string `json:"comment,omitempty"`
	Counted bool   `json:"counted"`
	Packets uint64 `json:"packets"` // while the echoes were sent
}

// hop returns the first hop that is meant, or nil.
func (r *Report) hop(node, role string) *Hop {
	for i := range r.Hops {
		if h := &r.Hops[i]; h.Node == node && h.Role == role {
			return h
		}
	}
	return nil
}

// asked returns what came of a question, or nil where it was not asked.
func (r *Report) asked(what string) *Asked {
	for i := range r.ARP {
		if r.ARP[i].What == what {
			return &r.ARP[i]
		}
	}
	return nil
}
