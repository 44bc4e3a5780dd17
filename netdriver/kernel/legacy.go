package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tables of iptables in its legacy form, which nftables knows nothing of. They
// are read as iptables-legacy-save does, by getsockopt on a raw socket; only
// those that there are, because asking for another makes it.

// legacyFamily is where one family's tables are and how its rules lie in memory
// (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h).
type legacyFamily struct {
	name          string
	names         string // the file that lists the tables
	family, level int
	entry         int // size of a rule without matches and target
	targetAt      int // where it says at which place its target is; the rule's whole size follows
	countersAt    int
}

var legacyFamilies = []legacyFamily{
	{"ip", "ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, 112, 88, 96},
	{"ip6", "ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, 168, 140, 152},
}

const (
	legacyInfo    = 64 // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
	legacyEntries = 65 // …_GET_ENTRIES

	legacyName     = 32 // XT_TABLE_MAXNAMELEN
	legacyInfoLen  = legacyName + 4 + 2*4*legacyHooks + 4 + 4
	legacyHead     = legacyName + 8 // of what holds the rules: name, size, and room to align
	legacyHooks    = 5
	legacyMost     = 64 << 20 // bytes of rules
	legacyTries    = 3        // while others change them
	targetHead     = 32       // struct xt_entry_target: size, name, revision
	targetName     = 2
	targetNameLen  = 29
	legacyDrop     = -1 // -NF_DROP - 1
	legacyNamed    = "ERROR"
	legacyRejected = "REJECT"
)

var legacyHookNames = [legacyHooks]string{"prerouting", "input", "forward", "output", "postrouting"}

// legacyDrops returns where such tables end packets. They count always.
func (k *Kernel) legacyDrops() (drops []Drop, err error) {
	err = k.Within(func() error {
		for _, f := range legacyFamilies {
			names, err := os.ReadFile("/proc/thread-self/net/" + f.names)
			if errors.Is(err, os.ErrNotExist) {
				continue // the kernel has none
			} else if err != nil {
				return fmt.Errorf("look for tables of iptables-legacy: %w", err)
			}
			for _, table := range strings.Fields(string(names)) {
				t, err := f.read(table)
				if err != nil {
					return fmt.Errorf("read table %s of iptables-legacy: %w", table, err)
				}
				drops = append(drops, t.drops(f, table)...)
			}
		}
		return nil
	})
	return drops, err
}

// legacyTable is a table as the kernel gives it out.
type legacyTable struct {
	hooks     uint32 // a bit for each that there is
	begin     [legacyHooks]uint32
	underflow [legacyHooks]uint32 // where the policy of each chain is
	rules     []byte
}

func (f legacyFamily) read(table string) (t legacyTable, err error) {
	fd, err := unix.Socket(f.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	for range legacyTries {
		info := make([]byte, legacyInfoLen)
		copy(info, table)
		if err = getsockopt(fd, f.level, legacyInfo, info); err != nil {
			return t, err
		}
		size := binary.NativeEndian.Uint32(info[legacyInfoLen-4:])
		if size > legacyMost {
			return t, fmt.Errorf("it has %d bytes of rules, more than %d", size, legacyMost)
		}
		t.hooks = binary.NativeEndian.Uint32(info[legacyName:])
		for h := range legacyHooks {
			t.begin[h] = binary.NativeEndian.Uint32(info[legacyName+4+4*h:])
			t.underflow[h] = binary.NativeEndian.Uint32(info[legacyName+4+4*(legacyHooks+h):])
		}
		all := make([]byte, legacyHead+size)
		copy(all, table)
		binary.NativeEndian.PutUint32(all[legacyName:], size)
		err = getsockopt(fd, f.level, legacyEntries, all)
		if t.rules = all[legacyHead:]; !errors.Is(err, unix.EAGAIN) { // else the size is another by now
			return t, err
		}
	}
	return t, err
}

// getsockopt hands over a name in the buffer that it is answered in.
func getsockopt(fd, level, option int, buf []byte) error {
	size := uint32(len(buf)) //nolint:gosec // bounded
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// legacyRule is a rule, or what stands at the beginning of a chain.
type legacyRule struct {
	at, next int
	target   string // "" is a verdict or a jump
	verdict  int32  // of those
	chain    string // that begins here
	packets  uint64
}

// each calls do for the rules in their order, as far as they can be read.
func (t legacyTable) each(f legacyFamily, do func(legacyRule)) {
	for at := 0; at+f.entry <= len(t.rules); {
		b := t.rules[at:]
		target, next := int(binary.NativeEndian.Uint16(b[f.targetAt:])), int(binary.NativeEndian.Uint16(b[f.targetAt+2:]))
		if target < f.entry || next < target+targetHead+4 || next > len(b) {
			return
		}
		r := legacyRule{at: at, next: at + next, packets: binary.NativeEndian.Uint64(b[f.countersAt:])}
		b = b[target:next]
		r.target = text(b[targetName : targetName+targetNameLen])
		switch r.target {
		case "":
			r.verdict = int32(binary.NativeEndian.Uint32(b[targetHead:])) //nolint:gosec // it is one
		case legacyNamed:
			r.chain = text(b[targetHead:])
		}
		do(r)
		at += next
	}
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// drops lists where packets end. Chains that no hook leads to have none, and
// nothing ends there.
func (t legacyTable) drops(f legacyFamily, table string) (drops []Drop) {
	hooks, at := t.hooksOf(f), Drop{Family: f.name, Table: table, Legacy: true, Counted: true}
	t.each(f, func(r legacyRule) {
		for h := range legacyHooks {
			if t.hooks&(1<<h) != 0 && t.begin[h] == uint32(r.at) { //nolint:gosec // bounded
				at.Chain, at.Handle, at.Hook = strings.ToUpper(legacyHookNames[h]), 0, legacyHookNames[h]
			}
		}
		if r.target == legacyNamed {
			at.Chain, at.Handle, at.Hook = r.chain, 0, hooks[r.next]
			return
		}
		at.Handle++
		d := at
		d.Packets = r.packets
		for h := range legacyHooks {
			if t.hooks&(1<<h) != 0 && t.underflow[h] == uint32(r.at) { //nolint:gosec // bounded
				d.Handle = 0
			}
		}
		switch {
		case r.target == "" && r.verdict == legacyDrop:
			d.Verdict = "drop"
		case r.target == legacyRejected:
			d.Verdict = "reject"
		default:
			return
		}
		drops = append(drops, d)
	})
	return drops
}

// hooksOf says by which hooks packets come to the chains, by where each one's
// first rule is.
func (t legacyTable) hooksOf(f legacyFamily) map[int]string {
	to, chain := map[int][]int{}, 0
	t.each(f, func(r legacyRule) {
		for h := range legacyHooks {
			if t.hooks&(1<<h) != 0 && t.begin[h] == uint32(r.at) { //nolint:gosec // bounded
				chain = r.at
			}
		}
		switch {
		case r.target == legacyNamed:
			chain = r.next
		case r.target == "" && r.verdict >= 0 && int(r.verdict) != r.next: // which is "no verdict"
			to[chain] = append(to[chain], int(r.verdict))
		}
	})
	hooks := map[int]string{}
	for h, name := range legacyHookNames {
		if t.hooks&(1<<h) == 0 {
			continue
		}
		seen := map[int]bool{}
		for todo := []int{int(t.begin[h])}; len(todo) > 0; todo = todo[1:] {
			if at := todo[0]; !seen[at] {
				seen[at] = true
				hooks[at] = strings.TrimPrefix(hooks[at]+","+name, ",")
				todo = append(todo, to[at]...)
			}
		}
	}
	return hooks
}
