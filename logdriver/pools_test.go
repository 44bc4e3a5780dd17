package logdriver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/admin"
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
func (h *host) until(what string, so func(admin.Status) bool) {
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
	h := newHost(t, "file://"+inEtc+list)
	r := h.run(1, nil)
	r.write("nobody is there yet")
	h.until("the source's fault is said", func(s admin.Status) bool {
		return len(s.Sources) == 1 && strings.Contains(s.Sources[0].Error, "no such file")
	})
	members(t, list, "json+tcp://"+a)
	expect(t, fromA, "nobody is there yet")
	members(t, list, "json+tcp://"+b)
	h.until("the stream has moved", func(s admin.Status) bool { return s.Streams[0].Collector == b })
	r.write("two")
	expect(t, fromB, "two")

	members(t, list, "jsn+tcp://"+a)
	h.until("the mistake is said", func(s admin.Status) bool { return strings.Contains(s.Sources[0].Error, "jsn") })
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
	h.until("all is delivered", func(s admin.Status) bool { return s.Streams[0].BacklogBytes == 0 })
	h.until("nobody follows the source any more", func(s admin.Status) bool { return len(s.Sources) == 0 })
}

// Pools of any kind come and go with containers; nothing of them is left.
func TestPoolsOfContainersEnd(t *testing.T) {
	a, fromA := collector(t)
	list := filepath.Join(t.TempDir(), "collectors")
	members(t, list, "json+tcp://"+a)
	h := newHost(t, "")
	for i := range 20 {
		r := h.run(i, map[string]string{"collectors": "file://" + inEtc + list + fmt.Sprintf(",json+tcp://%s?weight=0&name=c%d", a, i)})
		r.write(fmt.Sprint("line ", i))
		r.stop()
		expect(t, fromA, fmt.Sprint("line ", i))
	}
	h.until("no pool is left", func(s admin.Status) bool { return len(s.Sources) == 0 && len(s.Collectors) == 0 })
	if n := h.plugin.pools.Len(); n != 0 {
		t.Errorf("%d pools are left", n)
	}
}

// A weight that changes moves streams like anything else that does, at once.
func TestAWeightChanges(t *testing.T) {
	a, _ := collector(t)
	b, _ := collector(t)
	list := filepath.Join(t.TempDir(), "collectors")
	both := func(weightA, weightB int) {
		members(t, list, fmt.Sprintf("json+tcp://%s?name=a&weight=%d", a, weightA), fmt.Sprintf("json+tcp://%s?name=b&weight=%d", b, weightB))
	}
	both(1, 1<<20)
	h := newHost(t, "file://"+inEtc+list)
	r := h.run(1, nil)
	at := func(name string) func(admin.Status) bool {
		return func(s admin.Status) bool { return len(s.Streams) == 1 && s.Streams[0].Collector == name }
	}
	h.until("it is with the heavy one", at("b"))
	both(1<<20, 1)
	h.until("it is with the other, which is heavy now", at("a"))
	_, metrics := h.get(t.Context(), "/metrics")
	for _, want := range []string{
		fmt.Sprintf("dockline_log_source_failing{source=%q} 0\n", "file://"+inEtc+list),
		fmt.Sprintf("dockline_log_source_collectors{source=%q} 2\n", "file://"+inEtc+list),
		fmt.Sprintf("dockline_log_source_failures_total{source=%q} 0\n", "file://"+inEtc+list),
		"dockline_log_source_said_timestamp_seconds",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	r.stop()
}

// What no collector of a source could be reached with is refused with the
// container's start.
func TestSourcesThatCannotBe(t *testing.T) {
	h := newHost(t, "")
	for list, want := range map[string]string{
		"dns+jsn+tcp://logs.example:1":          `did you mean "json+tcp"`,
		"srv+relp://_l._tcp.example?facilty=x":  `"facilty"`,
		"consul+rlp://127.0.0.1:1/logs":         `"relp"`,
		"etcd+relp://127.0.0.1:1/a/?timeout=no": "timeout",
		"dns+relp://u:secret@logs.example:1":    "…@",
		"file:///nowhere/on/the/host/list":      "below the host's /etc",
	} {
		err := h.call("/LogDriver.StartLogging", map[string]any{"File": "/no/such/fifo", "Info": info(1, map[string]string{"collectors": list})})
		if !strings.Contains(err, want) || strings.Contains(err, "secret") {
			t.Errorf("%s: %q, without %q", list, err, want)
		}
	}
}

// A name that a list and a source both have is there once, after a restart too.
func TestANameInAListAndASource(t *testing.T) {
	a, _ := collector(t)
	b, fromB := collector(t)
	list := filepath.Join(t.TempDir(), "collectors")
	members(t, list, "json+tcp://"+b+"?name=one")
	h := newHost(t, "json+tcp://"+a+"?name=one,file://"+inEtc+list)
	r := h.run(1, nil)
	h.until("the file is read", func(s admin.Status) bool { return len(s.Sources) == 1 && s.Sources[0].Collectors == 1 })
	h.restart()
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	r.write("after")
	expect(t, fromB, "after")
	r.stop()
}
