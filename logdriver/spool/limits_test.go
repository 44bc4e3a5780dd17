package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOneSlowWriteHoldsUpNobodyElse has one stream's splice hang while others
// begin, write, fill the spool so that it evicts, are acknowledged and end.
func TestOneSlowWriteHoldsUpNobodyElse(t *testing.T) {
	var armed atomic.Bool
	hanging, goOn := make(chan struct{}), make(chan struct{})
	fault := func(op string) error {
		if op == "splice" && armed.CompareAndSwap(true, false) {
			close(hanging)
			<-goOn
		}
		return nil
	}
	s, err := Open(t.TempDir(), Config{MaxBytes: 200 << 10, SegmentBytes: 64 << 10, disk: disk{fault: fault}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	slow := attach(t, s, Params{Container: owner, Routes: []string{"a"}}, "/fifo/slow")
	write(t, w, []byte("slow"))
	armed.Store(true)
	var work sync.WaitGroup
	work.Go(func() { _, _ = slow.Splice(r, 100) })
	<-hanging
	r2, w2 := pipe(t)
	for i := range 10 {
		se := attach(t, s, Params{Container: fmt.Sprintf("%064x", i), Routes: []string{"a"}}, fmt.Sprint("/fifo/", i))
		for range 5 {
			write(t, w2, make([]byte, 30<<10))
			drain(t, se, r2)
		}
		if err := se.Stream().Ack("a", 100); err != nil {
			t.Fatal(err)
		}
		if err := se.Detach(); err != nil {
			t.Fatal(err)
		}
	}
	if h := s.Health(); h.Segments == 0 || slow.Stream().End() != 0 {
		t.Errorf("%+v, end %d", h, slow.Stream().End())
	}
	close(goOn)
	work.Wait()
	if got := string(readAll(t, slow.Stream(), 0)); got != "slow" {
		t.Errorf("the slow one has %q", got)
	}
}

// TestDescriptorsMayRunOut has more streams than descriptors for them. Streams
// that are quiet give theirs back, and nothing is refused or lost.
func TestDescriptorsMayRunOut(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	s.maxOpen = 1 << 30 // others may have taken them
	r, w := pipe(t)
	var all []*Session
	for i := range 60 {
		all = append(all, attach(t, s, Params{Container: fmt.Sprintf("%064x", i), Routes: []string{"a"}, KeepBytes: 1 << 20}, fmt.Sprint("/fifo/", i)))
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = uint64(len(fds) + 20)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()
	for round := range 3 {
		for i, se := range all {
			write(t, w, fmt.Appendf(nil, "%d-%d ", i, round))
			drain(t, se, r)
			if err := se.Stream().Ack("a", uint64(round)+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, se := range all {
		if got, want := string(readAll(t, se.Stream(), 0)), fmt.Sprintf("%d-0 %d-1 %d-2 ", i, i, i); got != want {
			t.Errorf("stream %d holds %q, want %q", i, got, want)
		}
	}
}

func TestTheSpoolLeavesDescriptorsToOthers(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	s.maxOpen = 10
	r, w := pipe(t)
	for i := range 100 {
		se := attach(t, s, Params{Container: fmt.Sprintf("%064x", i), Routes: []string{"a"}}, fmt.Sprint("/fifo/", i))
		write(t, w, []byte("bytes"))
		drain(t, se, r)
		if err := se.Stream().Ack("a", 1); err != nil {
			t.Fatal(err)
		}
		if n := s.health.open.Load(); n > s.maxOpen+1 {
			t.Fatalf("%d files are open", n)
		}
	}
	if s.Close(); s.health.open.Load() != 0 {
		t.Errorf("%d files are open after a close", s.health.open.Load())
	}
}

// TestAClockThatWasSetDoesNotChooseWhatIsEvicted: the newest bytes of a stream
// never go before its oldest, whatever their times say.
func TestAClockThatWasSetDoesNotChooseWhatIsEvicted(t *testing.T) {
	now := time.Now()
	for name, times := range map[string][]time.Duration{
		"set back":                {0, time.Hour, -48 * time.Hour, -47 * time.Hour, -46 * time.Hour},
		"set forward and back":    {0, 9000 * time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour},
		"one segment from future": {0, time.Hour, 2 * time.Hour, 3 * time.Hour, 9000 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Config{SegmentBytes: 1000})
			r, w := pipe(t)
			se := attach(t, s, Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 40}, "/fifo/1")
			write(t, w, make([]byte, 5000))
			drain(t, se, r)
			if err := se.Detach(); err != nil {
				t.Fatal(err)
			}
			segs, err := filepath.Glob(filepath.Join(se.Stream().dir, "*"+segmentExt))
			if err != nil || len(segs) != 5 {
				t.Fatal(segs, err)
			}
			for i, d := range times {
				if err := os.Chtimes(segs[i], now.Add(d), now.Add(d)); err != nil {
					t.Fatal(err)
				}
			}
			for left := 4; left >= 2; left-- {
				s = open(t, dir, Config{SegmentBytes: 1000, MaxBytes: int64(left)*(1000+overhead) + 4*overhead/10})
				if st := s.Of(owner); st.Start() != uint64(5-left)*1000 {
					t.Fatalf("with room for %d segments the stream begins at %d", left, st.Start())
				}
			}
		})
	}
}

func TestTheQuarantineIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{MaxBytes: 8000})
	se := attach(t, s, Params{Container: owner}, "/fifo/1")
	for i := range uint64(3) {
		if err := se.Stream().Quarantine(i*400, make([]byte, 400)); (err != nil) != (i == 2) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := se.Stream().Quarantine(0, make([]byte, 400)); err != nil {
		t.Errorf("again: %v", err)
	}
	want := Health{QuarantineFiles: 2, QuarantineBytes: 800, QuarantineLost: 400}
	if h := s.Health(); h != want {
		t.Errorf("%+v", h)
	}
	want.QuarantineLost = 0
	if h := open(t, dir, Config{MaxBytes: 8000}).Health(); h != want {
		t.Errorf("after a restart: %+v", h)
	}
}

func TestADamagedIndexCostsNothingButTime(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"cut in the middle of an entry": func(b []byte) []byte { return append(b[:entryLen+10:entryLen+10], b[entryLen:]...) },
		"zeros":                         func(b []byte) []byte { return make([]byte, len(b)) },
		"one bit":                       func(b []byte) []byte { b[3] ^= 1; return b },
		"gone":                          func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Config{SegmentBytes: 10})
			r, w := pipe(t)
			se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20}, "/fifo/1")
			write(t, w, []byte("0123456789abcdefghijABCDEFGHIJ"))
			drain(t, se, r)
			for _, edge := range []uint64{10, 20} {
				se.Stream().Mark(edge, Place{Offset: edge + 2, Time: 9})
			}
			path := filepath.Join(se.Stream().dir, indexFile)
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, spoil(data), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			st := open(t, dir, Config{SegmentBytes: 10}).Of(owner)
			if got := string(readAll(t, st, 0)); got != "0123456789abcdefghijABCDEFGHIJ" {
				t.Errorf("got %q", got)
			}
			if n := len(st.Places()); name[0] == 'c' && n != 3 {
				t.Errorf("%d places are known, want those behind the cut too", n)
			}
		})
	}
}

func TestADamagedDescriptionCostsNothing(t *testing.T) {
	for name, bad := range map[string]string{"empty": "", "zeros": "\x00\x00\x00", "half": `{"container":"4f6a`, "another's": `[]`} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Config{})
			r, w := pipe(t)
			p := Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1, Info: []byte(`{"a":1}`)}
			se := attach(t, s, p, "/fifo/1")
			write(t, w, []byte("kept"))
			drain(t, se, r)
			id := se.Stream().ID()
			if err := errors.Join(se.Stream().Ack("a", 2), se.Detach(), os.WriteFile(filepath.Join(se.Stream().dir, streamFile), []byte(bad), 0o600)); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, Config{})
			if st := s.Of(owner); st == nil || st.ID() != id || string(readAll(t, st, 0)) != "kept" {
				t.Fatal("the container's logs are gone")
			}
			s = open(t, dir, Config{})
			if st := attach(t, s, p, "/fifo/2").Stream(); st.ID() != id || st.Cursor("a") != 2 {
				t.Fatalf("the container got another stream, %s", st.ID())
			}
			if st := open(t, dir, Config{}).Of(owner); string(st.Info()) != `{"a":1}` {
				t.Errorf("the description is %s", st.Info())
			}
		})
	}
}
