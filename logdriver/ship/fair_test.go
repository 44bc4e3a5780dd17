package ship

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"

	"github.com/dockline/dockline/logdriver/record"
)

// sourcePeer is a peer that says of each record where it came from.
type sourcePeer struct{ *peer }

func (p sourcePeer) Prepare(*Meta) Template { return sourceTemplate{} }

type sourceTemplate struct{}

func (sourceTemplate) Append(dst []byte, r *Record) []byte {
	return fmt.Appendf(dst, "stderr=%v cut=%v %s\n", r.Stderr, r.Cut, r.Line)
}

// chunk encodes a part of a line, as the engine does.
func chunk(t *testing.T, source, text string, last bool) []byte {
	t.Helper()
	e := &stock.LogEntry{Source: source, TimeNano: 1, Line: []byte(text), Partial: true,
		PartialLogMetadata: &stock.PartialLogEntryMetadata{Id: "id-" + source, Ordinal: 1, Last: last}}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// Sleeps here are in bubbles of testing/synctest: they take no time, and end when
// every goroutine waits.

// A line that does not end is sent as it is when no more of it comes, each
// source's by itself, and as it is when the container ends.
func TestLinesThatDoNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := sourcePeer{&peer{}}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		add(t, s, m, "s", Pool{ID: "a", Collectors: []Collector{{Name: "a", Sink: a}}, Rank: func(string) []string { return []string{"a"} }})
		m.write(chunk(t, "stdout", "out-1 ", false))
		m.write(chunk(t, "stderr", "err-1 ", false))
		for range 5 { // one goes on, the other does not
			time.Sleep(openTime * 3 / 4)
			m.write(chunk(t, "stdout", "more ", false))
		}
		time.Sleep(openTime / 4)
		want := []string{"stderr=true cut=true err-1"}
		if got := a.received(); !slices.Equal(got, want) {
			t.Fatalf("while one line goes on there came %q", got)
		}
		if acked := m.Cursor(); acked != 0 {
			t.Fatalf("acknowledged up to %d, though the first line is not sent", acked)
		}
		time.Sleep(3 * openTime)
		want = append(want, "stderr=false cut=true out-1 more more more more more")
		if got := a.received(); !slices.Equal(got, want) {
			t.Fatalf("when none goes on there came %q", got)
		}
		if m.Cursor() != uint64(len(m.data)) {
			t.Errorf("acknowledged %d of %d bytes", m.Cursor(), len(m.data))
		}
		m.write(chunk(t, "stdout", "out-end", true))
		m.write(chunk(t, "stderr", "err-2 ", false))
		m.end() // long before its time is over
		time.Sleep(time.Second)
		want = append(want, "stderr=false cut=false out-end", "stderr=true cut=false err-2")
		if got := a.received(); !slices.Equal(got, want) {
			t.Errorf("in the end there came %q", got)
		}
		if s.Len() != 0 {
			t.Error("the ended stream is still held")
		}
	})
}

// A batch goes when it is full, or when its first record has waited for a
// moment, and no more of them than the collector allows wait for their
// acknowledgement.
func TestBatchesGoWhenFullOrAfterAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		add(t, s, m, "s", poolOf(map[string]*peer{"a": a}, "a"))
		sent := 0
		step := func(what string, write int, wait time.Duration, want int) {
			t.Helper()
			m.write(frames(t, sent, write))
			sent += write
			time.Sleep(wait)
			synctest.Wait()
			if got := len(a.received()); got != want {
				t.Fatalf("%s: %d records have been sent, want %d", what, got, want)
			}
		}
		limits := a.Limits()
		step("one, at once", 1, linger-time.Millisecond, 0)
		step("a little later", 0, time.Millisecond, 1)
		time.Sleep(time.Second)
		step("a full batch, at once", limits.BatchRecords, 0, 1+limits.BatchRecords)
		time.Sleep(time.Second)
		a.set(func() { a.silent = true })
		for range limits.InFlight {
			step("several under way", limits.BatchRecords, 0, sent+limits.BatchRecords)
		}
		step("one too many", limits.BatchRecords, time.Second, sent)
		a.set(func() { a.silent = false })
	})
}

// However much loud streams have to say, a quiet one's record is sent after at
// most one window of each of them and what was in a batch already.
func TestLoudStreamsDoNotStarveQuietOnes(t *testing.T) {
	for _, loud := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) { testFair(t, loud) })
	}
}

func testFair(t *testing.T, loud int) {
	const quietOnes, rounds, lineBytes = 20, 5, 1000
	a := &peer{}
	s := New(quiet)
	defer s.Close()
	pool := poolOf(map[string]*peer{"a": a}, "a")
	backlog := lines(t, 100*windowBytes/lineBytes, lineBytes)
	for i := range loud {
		m := newMemory()
		m.write(backlog)
		add(t, s, m, fmt.Sprint("loud-", i), pool)
	}
	var all []*memory
	for i := range quietOnes {
		all = append(all, newMemory())
		add(t, s, all[i], fmt.Sprint("quiet-", i), pool)
	}
	for round := range rounds {
		synctest.Wait() // as much is under way as may be
		before := len(a.received())
		for _, m := range all {
			m.write(frames(t, round, 1))
		}
		for _, m := range all {
			for tries := 0; m.Cursor() < uint64(len(m.data)) && tries < 1000; tries++ {
				time.Sleep(time.Millisecond)
			}
		}
		came, last := 0, 0
		for i, l := range a.received()[before:] {
			if strings.HasPrefix(l, "quiet-") {
				came, last = came+1, i
			}
		}
		// One window of each loud one, and one that was in a batch already.
		if most := (loud+1)*windowBytes/lineBytes + quietOnes; came != quietOnes || last > most {
			t.Fatalf("round %d: %d of %d quiet streams had their turn within %d records, want all within %d", round, came, quietOnes, last, most)
		}
	}
	if n := len(a.received()); n >= loud*100*windowBytes/lineBytes {
		t.Fatal("the test did not test: the loud streams had nothing more to say")
	}
}

// lines encodes so many lines of so many bytes.
func lines(t *testing.T, n, size int) (b []byte) {
	t.Helper()
	var enc record.Encoder
	for range n {
		var err error
		if b, err = enc.Append(b, false, 1, bytes.Repeat([]byte("x"), size)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// timedPeer is down and notes when it is dialled.
type timedPeer struct {
	*peer
	when []time.Time // the lane's
}

func (p *timedPeer) Dial(ctx context.Context) (Conn, error) {
	p.when = append(p.when, time.Now())
	return p.peer.Dial(ctx)
}

// Collectors that are down are dialled more and more rarely, up to a bound, and
// not in step with each other.
func TestBackOffGrowsAndJitters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := []*timedPeer{{peer: &peer{down: true}}, {peer: &peer{down: true}}}
		s := New(quiet)
		for i, p := range peers {
			name := fmt.Sprint("c", i)
			m := newMemory()
			m.write(frames(t, 0, 1))
			add(t, s, m, name, Pool{ID: name, Collectors: []Collector{{Name: name, Sink: p}}, Rank: func(string) []string { return []string{name} }})
		}
		time.Sleep(30 * time.Minute)
		s.Close() // after which nobody dials
		pauses := map[time.Duration]int{}
		for _, p := range peers {
			var longest time.Duration
			for i := 1; i < len(p.when); i++ {
				pause := p.when[i].Sub(p.when[i-1])
				longest = max(longest, pause)
				pauses[pause]++
			}
			if first := p.when[1].Sub(p.when[0]); first < minBackOff/2 || first > 2*minBackOff {
				t.Errorf("the first pause was %v", first)
			}
			if longest < maxBackOff || longest > 2*maxBackOff {
				t.Errorf("the longest pause was %v", longest)
			}
		}
		n := len(peers[0].when) + len(peers[1].when) - 2
		if n < 200 || len(pauses) < n*9/10 {
			t.Errorf("%d pauses have %d lengths: no jitter", n, len(pauses))
		}
	})
}
