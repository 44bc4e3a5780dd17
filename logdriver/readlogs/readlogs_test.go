package readlogs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/spool"
)

// feed is a container that writes into a spool.
type feed struct {
	t     testing.TB
	spool *spool.Spool
	se    *spool.Session
	r, w  int
	now   time.Time
	runs  int
}

func newFeed(t testing.TB, segment, budget int64) *feed {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Config{MaxBytes: budget, SegmentBytes: segment, FrameLen: record.Size}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(p[0]); _ = unix.Close(p[1]) })
	f := &feed{t: t, spool: s, r: p[0], w: p[1], now: time.Unix(1000, 0)}
	f.run()
	return f
}

func (f *feed) run() {
	f.t.Helper()
	if f.se != nil {
		if err := f.se.Detach(); err != nil {
			f.t.Fatal(err)
		}
	}
	f.runs++
	var err error
	f.se, _, err = f.spool.Attach(spool.Params{Container: strings.Repeat("a", 64), KeepBytes: 1 << 40}, fmt.Sprint("/fifo/", f.runs))
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *feed) stream() *spool.Stream { return f.se.Stream() }

func (f *feed) write(es ...*stock.LogEntry) {
	f.t.Helper()
	for _, e := range es {
		f.now = f.now.Add(time.Second)
		e.TimeNano = f.now.UnixNano()
		var b bytes.Buffer
		if err := stock.NewLogEntryEncoder(&b).Encode(e); err != nil {
			f.t.Fatal(err)
		}
		if _, err := unix.Write(f.w, b.Bytes()); err != nil {
			f.t.Fatal(err)
		}
		for n := 0; n < b.Len(); {
			k, err := f.se.Splice(f.r, 1<<20)
			if err != nil {
				f.t.Fatal(err)
			}
			n += k
		}
	}
}

func line(source, text string) *stock.LogEntry {
	return &stock.LogEntry{Source: source, Line: []byte(text)}
}

func chunk(source, id, text string, ordinal int32, last bool) *stock.LogEntry {
	return &stock.LogEntry{Source: source, Line: []byte(text), Partial: true,
		PartialLogMetadata: &stock.PartialLogEntryMetadata{Id: id, Ordinal: ordinal, Last: last}}
}

// read returns what a query gives, as "time source line".
func (f *feed) read(q Query) []string {
	f.t.Helper()
	var b bytes.Buffer
	if err := Write(context.Background(), f.stream(), q, &b); err != nil {
		f.t.Fatal(err)
	}
	var out []string
	dec := stock.NewLogEntryDecoder(&b)
	for {
		var e stock.LogEntry
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d %s %s", e.TimeNano/1e9, e.Source, e.Line))
	}
}

// random writes whole lines and interleaved chunks of long ones.
func (f *feed) random(rnd *rand.Rand, n int) {
	open := map[string]int32{}
	for i := range n {
		source := []string{"stdout", "stderr"}[rnd.IntN(2)]
		switch {
		case rnd.IntN(4) > 0 && open[source] == 0:
			f.write(line(source, fmt.Sprintf("line %d %s", i, strings.Repeat("x", rnd.IntN(60)))))
		default:
			open[source]++
			last := rnd.IntN(3) == 0
			f.write(chunk(source, source+fmt.Sprint(i/50), fmt.Sprintf("chunk %d.", i), open[source], last))
			if last || i%50 == 49 {
				open[source] = 0
			}
		}
		if rnd.IntN(100) == 0 {
			f.run()
			open = map[string]int32{}
		}
	}
}

func TestTailIsTheEndOfAll(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		f := newFeed(t, 300, 1<<40)
		f.random(rnd, 400)
		if seed%2 == 0 { // else nobody has left marks yet
			f.read(Query{Tail: -1})
		}
		tails := map[int][]string{}
		for _, n := range []int{0, 1, 2, 5, 17, 100, 5000} {
			tails[n] = f.read(Query{Tail: n})
		}
		all := f.read(Query{Tail: -1})
		for n, got := range tails {
			if want := all[max(0, len(all)-n):]; !slices.Equal(got, want) {
				t.Fatalf("seed %d, tail %d:\ngot  %q\nwant %q", seed, n, got, want)
			}
		}
	}
}

func TestSinceAndUntil(t *testing.T) {
	f := newFeed(t, 300, 1<<40)
	for i := range 100 {
		f.write(line("stdout", fmt.Sprint(i)))
	}
	all := f.read(Query{Tail: -1})
	for _, marked := range []bool{false, true} {
		got := f.read(Query{Tail: -1, Since: time.Unix(1041, 0), Until: time.Unix(1060, 0)})
		if !slices.Equal(got, all[40:60]) {
			t.Errorf("marked %v: %q", marked, got)
		}
	}
}

func TestReadingBeginsWithAWholeRecordAfterAnEviction(t *testing.T) {
	const frames = 400
	f := newFeed(t, 1000, 20*(1000+8<<10))
	for i := range frames {
		f.write(line("stdout", fmt.Sprintf("%04d %s", i, strings.Repeat("x", 200))))
	}
	got := f.read(Query{Tail: -1})
	if len(got) == 0 || len(got) == frames {
		t.Fatalf("%d of %d records are left: the test did not test", len(got), frames)
	}
	for i, l := range got {
		if want := fmt.Sprintf(" stdout %04d x", frames-len(got)+i); !strings.Contains(l, want) {
			t.Fatalf("record %d is %.40q, want %q", i, l, want)
		}
	}
}

func TestFollowEndsWithTheRun(t *testing.T) {
	f := newFeed(t, 1<<20, 1<<40)
	f.write(line("stdout", "first"))
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Write(context.Background(), f.stream(), Query{Tail: -1, Follow: true}, pw)
		_ = pw.Close()
		done <- err
	}()
	dec := stock.NewLogEntryDecoder(pr)
	expect := func(want string) {
		t.Helper()
		var e stock.LogEntry
		if err := dec.Decode(&e); err != nil || string(e.Line) != want {
			t.Fatalf("got %q, %v; want %q", e.Line, err, want)
		}
	}
	expect("first\n")
	f.write(line("stdout", "second"))
	expect("second\n")
	f.write(chunk("stdout", "x", "no newline", 1, false))
	if err := f.se.Detach(); err != nil {
		t.Fatal(err)
	}
	expect("no newline")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// BenchmarkTail measures `docker logs --tail 10` of a stream of 1 GiB.
func BenchmarkTail(b *testing.B) {
	f := newFeed(b, 4<<20, 1<<40)
	text := strings.Repeat("x", 16<<10)
	for range 64 << 10 {
		f.write(line("stdout", text))
	}
	for _, tail := range []int{10, -1} {
		b.Run(fmt.Sprint(tail), func(b *testing.B) {
			for b.Loop() {
				if err := Write(context.Background(), f.stream(), Query{Tail: tail}, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Who follows sees a line whose end does not come, and its rest behind it.
func TestFollowShowsLinesThatDoNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, 1<<20, 1<<40)
		out, in := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- Write(t.Context(), f.stream(), Query{Tail: -1, Follow: true}, in)
			_ = in.Close()
		}()
		dec := stock.NewLogEntryDecoder(out)
		f.write(chunk("stdout", "a", "begin ", 1, false), line("stderr", "other"))
		var got []string
		for i := range 3 {
			var e stock.LogEntry
			if err := dec.Decode(&e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Source+" "+string(e.Line))
			if i == 1 {
				f.write(chunk("stdout", "a", "end", 2, true))
			}
		}
		if want := []string{"stderr other\n", "stdout begin ", "stdout end\n"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := f.se.Detach(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
