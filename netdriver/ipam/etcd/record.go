package etcd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
)

// Kinds of records beside those of ipam.
const (
	reserved ipam.Kind = "reserve" // claimed ahead by a host
	held     ipam.Kind = "held"    // left by a container, and kept for it a while
	unknown  ipam.Kind = "unknown" // of a later version, or damaged: somebody's
)

// Record says who has an address.
type Record struct {
	Kind     ipam.Kind `json:"kind,omitempty"` // "" is a container
	Host     string    `json:"host"`           // the id of its installation
	HostName string    `json:"host_name"`
	Network  string    `json:"network,omitempty"` // the id on that host
	Pool     string    `json:"pool"`
	Key      string    `json:"key,omitempty"` // the endpoint's name or MAC
	MAC      string    `json:"mac,omitempty"` // of a machine that has it, of foreign ones
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until,omitzero"` // of those that end by themselves
	ID       string    `json:"id"`             // of the write
}

// PoolRecord says that a host has a network on a subnet.
type PoolRecord struct {
	Host     string       `json:"host"`
	HostName string       `json:"host_name"`
	Pool     string       `json:"pool"`
	Subnet   netip.Prefix `json:"subnet"`
	Range    netip.Prefix `json:"range"`
	Share    string       `json:"share,omitempty"`
	// Definition is that of the network, where it is shared.
	Definition map[string]string `json:"definition,omitempty"`
	Since      time.Time         `json:"since"`
}

// HostRecord is a host.
type HostRecord struct {
	Host     string    `json:"host"`
	HostName string    `json:"host_name"`
	Since    time.Time `json:"since"` // when the process began that wrote it
	ID       string    `json:"id"`    // of that process
	Boot     string    `json:"boot"`  // of the machine that it ran on
	rev      int64
}

// place is an address of a segment.
type place struct {
	segment string
	addr    netip.Addr
}

func (p place) String() string { return p.segment + " " + p.addr.String() }

// folder is the first part of a key behind the prefix.
type folder string

const (
	addresses folder = "address"
	asides    folder = "aside"
	foreign   folder = "foreign"
	wishes    folder = "reservation"
	pools     folder = "pool"
	hosts     folder = "host"
	alive     folder = "alive"
)

// key joins a key; parts hold no slash.
func (b *Backend) key(t folder, parts ...string) string {
	return b.cfg.Prefix + "/" + string(t) + "/" + strings.Join(parts, "/")
}

func (b *Backend) addressKey(p place) string { return b.key(addresses, p.segment, p.addr.String()) }

// asidesOf begins the keys of those who set an address aside.
func (b *Backend) asidesOf(p place) string { return b.key(asides, p.segment, p.addr.String()) + "/" }

func (b *Backend) foreignKey(p place) string { return b.key(foreign, p.segment, p.addr.String()) }

func (b *Backend) wishKey(p place) string { return b.key(wishes, p.segment, p.addr.String()) }

func (b *Backend) poolKey(segment string, subnet netip.Prefix, host string) string {
	return b.key(pools, segment, strings.ReplaceAll(subnet.String(), "/", "-"), host)
}

// parseKey takes a key apart.
func (b *Backend) parseKey(key string) (t folder, p place, host string, ok bool) {
	rest, ok := strings.CutPrefix(key, b.cfg.Prefix+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 {
		return "", place{}, "", false
	}
	t = folder(parts[0])
	var err error
	switch want := map[folder]int{addresses: 3, foreign: 3, wishes: 3, asides: 4, pools: 4, hosts: 2, alive: 2}[t]; {
	case want != len(parts):
		return "", place{}, "", false
	case t == hosts || t == alive:
		return t, place{}, parts[1], true
	case t == pools:
		return t, place{segment: parts[1]}, parts[3], true
	case t == asides:
		host = parts[3]
	}
	p = place{segment: parts[1]}
	p.addr, err = netip.ParseAddr(parts[2])
	return t, p, host, err == nil
}

func encode(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode a record: %v", err)) // of plain fields
	}
	return string(raw)
}
