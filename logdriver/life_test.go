package logdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/container"
)

// socket is a host's plugin behind a real socket, which the engine's calls
// come through. Its methods may be called by several goroutines.
type socket struct {
	*host
	client http.Client
}

func (h *host) listen() *socket {
	h.t.Helper()
	path := filepath.Join(h.dir, "plugin.sock")
	l, err := pluginserver.Listen(path)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(ctx, l) }()
	s := &socket{host: h}
	s.client.Transport = &http.Transport{MaxIdleConnsPerHost: 32, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	h.t.Cleanup(func() {
		s.client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	return s
}

// post makes one call and returns how long it took.
func (s *socket) post(path string, body any) (time.Duration, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	res, err := s.client.Post("http://plugin"+path, "application/vnd.docker.plugins.v1.1+json", bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var reply struct{ Err string }
	err = json.NewDecoder(res.Body).Decode(&reply)
	if reply.Err != "" {
		err = errors.New(reply.Err)
	}
	return time.Since(began), err
}

// life is what the engine does for one container from its start to its end.
// The last line has no newline.
func (s *socket) life(info container.Info, lines ...string) (start, stop time.Duration, err error) {
	file := filepath.Join(s.dir, fmt.Sprintf("short-%s-%d", info.ContainerID, rand.Uint32()))
	if err := unix.Mkfifo(file, 0o700); err != nil {
		return 0, 0, err
	}
	defer os.Remove(file)
	pipe, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer pipe.Close() // after StopLogging, as the engine does
	if start, err = s.post("/LogDriver.StartLogging", map[string]any{"File": file, "Info": info}); err != nil {
		return start, 0, err
	}
	enc := stock.NewLogEntryEncoder(pipe)
	for i, l := range lines {
		e := &stock.LogEntry{Source: "stdout", TimeNano: time.Now().UnixNano(), Line: []byte(l)}
		if i == len(lines)-1 {
			e.Partial, e.PartialLogMetadata = true, &stock.PartialLogEntryMetadata{Id: "p", Ordinal: 1}
		}
		if err := enc.Encode(e); err != nil {
			return start, 0, err
		}
	}
	stop, err = s.post("/LogDriver.StopLogging", map[string]any{"File": file})
	return start, stop, err
}

// live lets so many containers live, sixteen at a time: many more a second than an
// engine can start. It returns what they wrote.
func (s *socket) live(lives int, config map[string]string) (wrote []string) {
	s.t.Helper()
	var mu sync.Mutex
	var starts, stops []time.Duration
	var all errgroup.Group
	all.SetLimit(16)
	began := time.Now()
	for i := range lives {
		var lines []string
		for n := range 4 {
			lines = append(lines, fmt.Sprintf("container %d line %d", i, n))
		}
		wrote = append(wrote, lines...)
		all.Go(func() error {
			start, stop, err := s.life(info(i, config), lines...)
			mu.Lock()
			defer mu.Unlock()
			starts, stops = append(starts, start), append(stops, stop)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		s.t.Fatal(err)
	}
	took := time.Since(began)
	slices.Sort(starts)
	slices.Sort(stops)
	s.t.Logf("%.0f containers a second; StartLogging p50 %v p99 %v, StopLogging p50 %v p99 %v", float64(lives)/took.Seconds(),
		starts[lives/2], starts[lives*99/100], stops[lives/2], stops[lives*99/100])
	return wrote
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("does not come to pass: ", what)
		}
		time.Sleep(5 * time.Millisecond) // what is looked at gives no sign when it changes
	}
}

// open returns what the process has open below a folder.
func open(t testing.TB, dir string) (paths []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir+"/") {
			paths = append(paths, to)
		}
	}
	return paths
}

func files(t testing.TB, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths[1:]
}

// Of a thousand containers that live for a moment nothing is lost, and when
// nothing is to be kept nothing is left.
func TestShortLivesLeaveNothing(t *testing.T) {
	addr, lines := collector(t)
	s := newHost(t, "json+tcp://"+addr).listen()
	goroutines := s.atRest()
	wrote := s.live(1000, map[string]string{"max-size": "0"})
	got := make([]string, 0, len(wrote))
	for range wrote {
		select {
		case l := <-lines:
			got = append(got, l)
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of %d records arrived", len(got), len(wrote))
		}
	}
	slices.Sort(got)
	if slices.Sort(wrote); !slices.Equal(got, wrote) {
		t.Error("what arrived is not what was written")
	}
	eventually(t, "all streams are gone", func() bool { return len(s.plugin.spool.Streams()) == 0 && s.plugin.ship.Len() == 0 })
	if left := files(t, filepath.Join(s.cfg.StateDir, "spool/streams")); len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
	if used, dropped := s.plugin.spool.Used(); used != 0 || dropped != 0 {
		t.Errorf("%d bytes counted as used, %d as dropped", used, dropped)
	}
	s.leavesNoProcess(goroutines)
}

// atRest returns how many goroutines there are while no container lives.
func (s *socket) atRest() int {
	s.t.Helper()
	if _, _, err := s.life(info(999_999, map[string]string{"max-size": "0"})); err != nil { // makes what stays, such as the poller
		s.t.Fatal(err)
	}
	s.client.CloseIdleConnections()
	return runtime.NumGoroutine()
}

// leavesNoProcess checks that no stream has anything in memory any more that
// costs while it rests.
func (s *socket) leavesNoProcess(goroutines int) {
	s.t.Helper()
	if n := s.plugin.pumps.Len(); n != 0 {
		s.t.Errorf("%d FIFOs are still read", n)
	}
	s.client.CloseIdleConnections()
	eventually(s.t, "the goroutines of pumps and connections end", func() bool { return runtime.NumGoroutine() <= goroutines })
	left := slices.DeleteFunc(open(s.t, s.dir), func(path string) bool {
		return path == filepath.Join(s.dir, "plugin.sock") || path == filepath.Join(s.cfg.StateDir, historyFile)
	})
	if len(left) > 0 {
		s.t.Errorf("descriptors are left: %q", left)
	}
}

// With what is kept by default, the spool's bound is what bounds the files. A
// burst may be ahead of the eviction; the containers after it bring it back.
func TestShortLivesAreBounded(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	h.plugin.Close()
	h.cfg.SpoolMax = 1 << 20
	h.start()
	s := h.listen()
	goroutines := s.atRest()
	for range s.live(200, nil) {
		select {
		case <-lines:
		case <-time.After(20 * time.Second):
			t.Fatal("not everything arrived")
		}
	}
	over := func() bool { used, _ := s.plugin.spool.Used(); return used > h.cfg.SpoolMax }
	more := 0
	for ; over() && more < 100; more++ {
		if _, _, err := s.life(info(500+more, nil), "more"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all is acknowledged", func() bool { return s.plugin.ship.Len() == 0 })
	left := files(t, filepath.Join(h.cfg.StateDir, "spool/streams"))
	streams := len(s.plugin.spool.Streams())
	t.Logf("after %d more, %d streams and %d files are left", more, streams, len(left))
	// Each stream costs at least as much as an empty segment is taken for.
	if most := int(h.cfg.SpoolMax / (8 << 10)); over() || streams > most || len(left) > 5*most {
		t.Errorf("%d streams with %d files are left, want at most %d", streams, len(left), most)
	}
	if _, dropped := s.plugin.spool.Used(); dropped != 0 {
		t.Errorf("%d bytes were dropped", dropped)
	}
	s.leavesNoProcess(goroutines)
}

// A container whose start or stop does not come to an end holds up no other.
func TestContainersDoNotWaitForEachOther(t *testing.T) {
	s := newHost(t, "").listen()
	defer s.plugin.streams.Lock(info(1, nil).ContainerID)()
	if _, _, err := s.life(info(2, nil), "fine"); err != nil {
		t.Error(err)
	}
}

// The same calls at the same time, as an engine makes them that tries again.
func TestTheSameCallsAtOnce(t *testing.T) {
	s := newHost(t, "").listen()
	for round := range 20 {
		r := s.run(round%3, nil)
		var all errgroup.Group
		for range 8 {
			all.Go(func() error {
				_, err := s.post("/LogDriver.StartLogging", map[string]any{"File": r.file, "Info": r.info})
				return err
			})
		}
		r.write("one")
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			all.Go(func() error {
				_, err := s.post("/LogDriver.StopLogging", map[string]any{"File": r.file})
				return err
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		if n := s.plugin.pumps.Len(); n != 0 {
			t.Fatalf("%d FIFOs are still read", n)
		}
	}
	for _, st := range s.plugin.spool.Streams() {
		if st.Live() {
			t.Error("a stream is live though all its sessions were stopped")
		}
	}
}
