package logdriver

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/route"
)

// idCollector keeps the ids of what it receives.
type idCollector struct {
	l    net.Listener
	mu   sync.Mutex // guards what follows
	ids  []string
	open map[net.Conn]struct{}
}

func collectIDs(t *testing.T, address string) *idCollector {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &idCollector{l: l, open: map[net.Conn]struct{}{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.open[conn] = struct{}{}
			c.mu.Unlock()
			all.Go(func() { c.read(conn) })
		}
	})
	t.Cleanup(func() { c.close(); all.Wait() })
	return c
}

func (c *idCollector) read(conn net.Conn) {
	for s := bufio.NewScanner(conn); s.Scan(); {
		var m struct{ ID string }
		if json.Unmarshal(s.Bytes(), &m) == nil {
			c.mu.Lock()
			c.ids = append(c.ids, m.ID)
			c.mu.Unlock()
		}
	}
}

// close ends it as a killed process does.
func (c *idCollector) close() {
	_ = c.l.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
}

func (c *idCollector) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ids)
}

// With hash=record, each record is at the collector that its id selects, also
// when the plugin was restarted in between; each comes once.
func TestEachRecordHasItsCollector(t *testing.T) {
	const n = 3000
	collectors := map[string]*idCollector{}
	var urls []string
	var nodes []route.Node
	for _, name := range []string{"a", "b", "c"} {
		collectors[name] = collectIDs(t, "127.0.0.1:0")
		urls = append(urls, fmt.Sprintf("json+tcp://%s?name=%s", collectors[name].l.Addr(), name))
		nodes = append(nodes, route.Node{Name: name, Weight: 1})
	}
	table, err := route.New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, strings.Join(urls, ","))
	r := h.run(1, map[string]string{"hash": "record"})
	for i := range n {
		r.write(fmt.Sprint("line ", i))
		if i == n/2 {
			h.restart()
		}
	}
	r.stop()
	come := func() (n int) {
		for _, c := range collectors {
			n += len(c.got())
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); come() < n && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // between two looks at who got what
	}
	seen := map[string]bool{}
	for name, c := range collectors {
		for _, id := range c.got() {
			if seen[id] = true; table.First(id) != name {
				t.Fatalf("%s is at %s, and not at %s", id, name, table.First(id))
			}
		}
	}
	if len(seen) != n || come() != n {
		t.Errorf("%d different records of %d came, want %d", len(seen), come(), n)
	}
}
