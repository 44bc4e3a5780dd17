package logdriver

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var manyStreams = flag.Int("streams", 1000, "for TestManyStreams")

// TestManyStreams drives a thousand streams through the protocol with fewer
// descriptors than they would take if each kept its own: a pipe on both sides,
// a segment and a cursor.
func TestManyStreams(t *testing.T) {
	n := *manyStreams
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	tight := limit
	tight.Cur = min(limit.Max, uint64(3*n+100))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	var runs []*run
	for i := range n {
		r := h.run(i+1, nil)
		r.write(fmt.Sprint("first of ", i))
		runs = append(runs, r)
	}
	for i, r := range runs {
		r.write(fmt.Sprint("second of ", i))
	}
	for i, r := range runs {
		if i%2 == 0 {
			r.stop()
		}
	}
	seen := map[string]int{}
	for range 2 * n {
		select {
		case l := <-lines:
			seen[l]++
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d records came", len(seen), 2*n)
		}
	}
	if len(seen) != 2*n {
		t.Errorf("%d different records of %d", len(seen), 2*n)
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		t.Logf("%d descriptors for %d streams, of which half have ended", len(fds), n)
	}
	for i, r := range runs {
		if i%2 != 0 {
			r.stop()
		}
	}
}
