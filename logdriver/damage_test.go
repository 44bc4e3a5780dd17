package logdriver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/logdriver/engine"
)

// TestDamageCostsOnlyWhatIsDamaged spoils bytes in the middle of a stream whose
// collector was away. What is whole arrives, in order, a record in the place of
// what is not says so, and it is counted and kept.
func TestDamageCostsOnlyWhatIsDamaged(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://127.0.0.1:1") // nobody there
	r := h.run(1, nil)
	for i := range 300 {
		r.write(fmt.Sprintf("line %03d", i))
	}
	r.stop()
	h.plugin.Close()
	segs, err := filepath.Glob(filepath.Join(h.dir, "state/spool/streams/*/*.seg"))
	if err != nil || len(segs) != 1 {
		t.Fatal(segs, err)
	}
	data, err := os.ReadFile(segs[0])
	if err != nil {
		t.Fatal(err)
	}
	frame := len(data) / 300
	copy(data[100*frame:110*frame], make([]byte, 10*frame)) // as a power cut leaves them
	copy(data[200*frame:], "\xff\xff\xff\xff not a frame")
	if err := os.WriteFile(segs[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	h.cfg.Collectors = "json+tcp://" + addr
	h.start()
	var want []string
	for i := range 300 {
		switch {
		case i == 100:
			want = append(want, fmt.Sprintf("[dockline] %d bytes of this container's output are damaged on the disk and left out here; the host keeps them in quarantine", 10*frame))
		case i == 200:
			want = append(want, fmt.Sprintf("[dockline] %d bytes of this container's output are damaged on the disk and left out here; the host keeps them in quarantine", frame))
		case i > 100 && i < 110:
		default:
			want = append(want, fmt.Sprintf("line %03d", i))
		}
	}
	expect(t, lines, want...)
	expectMetrics(t, h, fmt.Sprintf("dockline_log_quarantined_bytes_total %d\n", 11*frame), fmt.Sprintf("dockline_log_quarantine_bytes %d\n", 11*frame), "dockline_log_quarantine_files 2\n", "dockline_log_segments 1\n", "dockline_log_slow_splices_total 0\n")
	logs := h.logs(r.info, engine.ReadConfig{Tail: -1})
	if len(logs) != 289 || logs[0] != "stdout line 000\n" || logs[288] != "stdout line 299\n" {
		t.Errorf("docker logs has %d lines", len(logs))
	}
}

func expectMetrics(t *testing.T, h *host, want ...string) {
	t.Helper()
	_, metrics := h.get(t.Context(), "/metrics")
	for _, w := range want {
		if !strings.Contains(metrics, w) {
			t.Errorf("metrics lack %q:\n%s", w, metrics)
		}
	}
}

// TestAReadOnlyDiskAtTheStart: the plugin starts, goes on reading its containers,
// says no to new ones in words, and goes on when the disk takes bytes again.
func TestAReadOnlyDiskAtTheStart(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	v := mountMemory(t, h)
	r := h.run(1, nil)
	r.write("before")
	expect(t, lines, "before")
	h.plugin.Close()
	h.plugin.spool.Close()
	v.readOnly(true)
	h.start()
	if msg := h.tryRun(2); !strings.Contains(msg, "read-only file system") {
		t.Errorf("a container that starts meanwhile is told %q", msg)
	}
	// More than a pipe holds: if nobody took it, this would never return.
	long := strings.Repeat("x", 1000)
	for range 300 {
		r.write(long)
	}
	v.readOnly(false)
	marked := false
	for got := ""; got != "after"; { // what the pipe held may arrive before it
		r.write("after")
		select {
		case got = <-lines:
			marked = marked || strings.HasPrefix(got, "[dockline] ") && strings.Contains(got, "bytes of this container's output were dropped here")
		case <-time.After(100 * time.Millisecond): // the pump may be throwing away still
		}
	}
	if !marked {
		t.Error("nothing says that bytes were dropped")
	}
	r.stop()
}

// memory is a tmpfs that holds the plugin's state.
type memory struct {
	t   *testing.T
	dir string
}

func mountMemory(t *testing.T, h *host) memory {
	t.Helper()
	h.plugin.Close()
	if err := unix.Mount("none", h.cfg.StateDir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(h.cfg.StateDir, unix.MNT_DETACH) })
	h.start()
	return memory{t, h.cfg.StateDir}
}

func (m memory) readOnly(yes bool) {
	m.t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if yes {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("none", m.dir, "", flags, ""); err != nil {
		m.t.Fatal(err)
	}
}

// tryRun starts a container and returns what the engine is told.
func (h *host) tryRun(n int) string {
	h.t.Helper()
	file := filepath.Join(h.dir, fmt.Sprint("refused-", n))
	if err := unix.Mkfifo(file, 0o700); err != nil {
		h.t.Fatal(err)
	}
	return h.call("/LogDriver.StartLogging", map[string]any{"File": file, "Info": info(n, nil)})
}
