package kernel

import (
	"encoding/json"
	"net"
	"os/exec"
	"testing"
)

// A packet that a queue within another one drops is counted once.
func TestDropsOfQueues(t *testing.T) {
	k := inNamespace(t)
	k.in(t, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
	k.in(t, "ip", "link", "add", "near", "type", "veth", "peer", "far")
	k.in(t, "ip", "link", "set", "far", "up")
	k.in(t, "ip", "link", "set", "near", "up")
	k.in(t, "ip", "address", "add", "192.0.2.1/24", "dev", "near")
	k.in(t, "ip", "neighbour", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "near")
	k.in(t, "tc", "qdisc", "add", "dev", "near", "root", "handle", "1:", "htb", "default", "1")
	k.in(t, "tc", "class", "add", "dev", "near", "parent", "1:", "classid", "1:1", "htb", "rate", "8kbit", "burst", "1500", "cburst", "1500")
	k.in(t, "tc", "qdisc", "add", "dev", "near", "parent", "1:1", "handle", "2:", "pfifo", "limit", "2")
	var c net.Conn
	err := k.Within(func() (err error) {
		c, err = net.Dial("udp", "192.0.2.2:9")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 50 {
		_, _ = c.Write(make([]byte, 1000)) // the kernel may say that it was dropped
	}
	var out []byte
	if err := k.Within(func() (err error) {
		out, err = exec.Command("tc", "-s", "-j", "qdisc", "show", "dev", "near").Output()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var queues []struct {
		Root  bool
		Drops uint64
	}
	if err := json.Unmarshal(out, &queues); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var of, all uint64
	for _, q := range queues {
		if all += q.Drops; q.Root {
			of = q.Drops
		}
	}
	links, err := k.LinkStates()
	if err != nil {
		t.Fatal(err)
	}
	if got := links["near"].Queued; got != of || of == 0 || all != 2*of {
		t.Errorf("%d packets were dropped: %d by the root, %d by all of %s", got, of, all, out)
	}
}
