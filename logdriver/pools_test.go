package logdriver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// members writes the list that a pool is read from, as editors do.
func members(t *testing.T, file string, list ...string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(strings.Join(list, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// until waits for the status to be so.
func (h *host) until(what string, so func(Status) bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(h.plugin.Status()); time.Sleep(5 * time.Millisecond) { // nothing tells of a status
		if time.Now().After(end) {
			h.t.Fatalf("%s: never; the status is %+v", what, h.plugin.Status())
		}
	}
}

func TestAPoolFollowsItsSource(t *testing.T) {
	a, fromA := collector(t)
	b, fromB := collector(t)
	list := filepath.Join(t.TempDir(), "collectors")
	h := newHost(t, "file://"+list)
	r := h.run(1, nil)
	r.write("nobody is there yet")
	h.until("the source's fault is said", func(s Status) bool {
		return len(s.Sources) == 1 && strings.Contains(s.Sources[0].Error, "no such file")
	})
	members(t, list, "json+tcp://"+a)
	expect(t, fromA, "nobody is there yet")
	members(t, list, "json+tcp://"+b)
	h.until("the stream has moved", func(s Status) bool { return s.Streams[0].Collector == b })
	r.write("two")
	expect(t, fromB, "two")

	members(t, list, "jsn+tcp://"+a)
	h.until("the mistake is said", func(s Status) bool { return strings.Contains(s.Sources[0].Error, "jsn") })
	r.write("three")
	expect(t, fromB, "three")

	// The next process begins while the source is away.
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	h.restart()
	r.write("four")
	expect(t, fromB, "four")
	r.stop()
	h.until("all is delivered", func(s Status) bool { return s.Streams[0].BacklogBytes == 0 })
	h.until("nobody follows the source any more", func(s Status) bool { return len(s.Sources) == 0 })
}

// Pools of any kind come and go with containers; nothing of them is left.
func TestPoolsOfContainersEnd(t *testing.T) {
	a, fromA := collector(t)
	list := filepath.Join(t.TempDir(), "collectors")
	members(t, list, "json+tcp://"+a)
	h := newHost(t, "")
	for i := range 20 {
		r := h.run(i, map[string]string{"collectors": "file://" + list + fmt.Sprintf(",json+tcp://%s?weight=0&name=c%d", a, i)})
		r.write(fmt.Sprint("line ", i))
		r.stop()
		expect(t, fromA, fmt.Sprint("line ", i))
	}
	h.until("no pool is left", func(s Status) bool { return len(s.Sources) == 0 && len(s.Collectors) == 0 })
	h.plugin.pools.mu.Lock()
	defer h.plugin.pools.mu.Unlock()
	if n := len(h.plugin.pools.open); n != 0 {
		t.Errorf("%d pools are left", n)
	}
}
