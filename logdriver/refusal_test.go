package logdriver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/place"
)

// fillPipe writes as much as the container's FIFO takes while nobody reads it.
func (r *run) fillPipe() (n int64) {
	r.h.t.Helper()
	fd, err := unix.Open(r.file, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		r.h.t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		k, err := unix.Write(fd, make([]byte, 4096))
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if err != nil {
			r.h.t.Fatal(err)
		}
		n += int64(k)
	}
}

// With the spool out of reach, containers that run already do not wait for a
// reader, and new ones are told why they do not start.
func TestASpoolOutOfReachBlocksNobody(t *testing.T) {
	h := newHost(t, "")
	address, a := downCollector(t), t.TempDir()
	h.cfg.Collectors = "json+tcp://" + address + "?name=c1"
	if err := h.moveTo(a); err != nil {
		t.Fatal(err)
	}
	stays, ends := h.run(1, nil), h.run(2, nil)
	stays.write("before")
	h.until("it is spooled", func(s admin.Status) bool { return s.Streams[0].End > 0 || s.Streams[1].End > 0 })
	h.plugin.Close()
	filled := stays.fillPipe() + ends.fillPipe()
	h.cfg.SpoolMount, h.cfg.SpoolMountedFrom = "", ""
	d, err := Start(h.cfg, quiet)
	refusal, ok := d.(outOfReach)
	if !ok {
		t.Fatalf("%T, %v", d, err)
	}
	why := refusal.Why()
	var elsewhere *place.Error
	if !errors.As(why, &elsewhere) {
		t.Fatal(why)
	}
	h.server = pluginserver.New(quiet)
	refusal.Register(h.server)

	for range 2000 { // more than a pipe holds
		stays.write(strings.Repeat("x", 200))
		ends.write(strings.Repeat("x", 200))
	}
	for path, body := range map[string]any{
		"/LogDriver.StartLogging": map[string]any{"File": "/fifo/new", "Info": info(3, nil)},
		"/LogDriver.ReadLogs":     map[string]any{"Info": stays.info},
	} {
		if said := h.call(path, body); said != why.Error() {
			t.Errorf("%s says %q", path, said)
		}
	}
	ends.stop()
	ends.stop()
	if n := refusal.Dropped(); n < filled+2000*200 {
		t.Errorf("%d bytes count as dropped, %d filled the pipes", n, filled)
	}
	refusal.Close()

	// In reach again, all is well.
	h.cfg.SpoolMount, h.cfg.SpoolMountedFrom = a, a
	h.start()
	stays.write("after")
	_, lines := collectorAt(t, address)
	t.Cleanup(h.plugin.Close) // before the collector, who waits for it
	expectLine(t, lines, "before")
	for deadline := time.After(30 * time.Second); ; { // a collector that was down is dialled again after some time
		select {
		case l := <-lines:
			if l == "after" {
				return
			}
		case <-deadline:
			t.Fatal("what is written when the spool is back does not arrive")
		}
	}
}
