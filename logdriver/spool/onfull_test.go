package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"
)

// The frames of these tests are 500 bytes: a length, a number, and filling.
const frameBytes = 500

func fixedLen(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	if n := binary.BigEndian.Uint32(b); n != frameBytes-4 {
		return 0, errors.New("not a frame")
	}
	return frameBytes, nil
}

func frame(n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, frameBytes-4)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, bytes.Repeat([]byte("x"), frameBytes-8)...)
}

// writer is a container: its frames are numbered.
type writer struct {
	t    *testing.T
	se   *Session
	r, w int
	next int
}

func newWriter(t *testing.T, s *Spool, n int, p Params) *writer {
	t.Helper()
	if p.Container == "" {
		p.Container = fmt.Sprintf("%064x", n)
	}
	p.Routes = []string{"a"}
	r, w := pipe(t)
	return &writer{t: t, se: attach(t, s, p, fmt.Sprint("/fifo/", n)), r: r, w: w}
}

// write puts frames through the pipe, in pieces that cut some of them.
func (w *writer) write(frames int) {
	w.t.Helper()
	for range frames {
		f := frame(w.next)
		w.next++
		cut := w.next % frameBytes
		write(w.t, w.w, f[:cut])
		if w.next%3 == 0 {
			drain(w.t, w.se, w.r)
		}
		write(w.t, w.w, f[cut:])
		if w.next%7 == 0 {
			drain(w.t, w.se, w.r)
		}
	}
	drain(w.t, w.se, w.r)
}

func (w *writer) ack(offset uint64) {
	w.t.Helper()
	if err := w.se.Stream().Ack("a", offset); err != nil {
		w.t.Fatal(err)
	}
}

// numbers reads a stream as frames, -1 for each gap, and returns what was lost.
func numbers(t *testing.T, st *Stream, offset uint64) (seen []int, lost uint64) {
	t.Helper()
	r := st.NewReader()
	defer r.Close()
	var left []byte
	for buf := make([]byte, 4096); ; {
		span, err := r.Read(buf, offset)
		if errors.Is(err, io.EOF) {
			if len(left) > 0 {
				t.Errorf("the stream ends in %d bytes of a frame", len(left))
			}
			return seen, lost
		}
		if err != nil {
			t.Fatal(err)
		}
		if span.From > offset {
			if len(left) > 0 || span.Torn {
				t.Errorf("%d bytes of a frame before the gap at %d, torn %v", len(left), offset, span.Torn)
			}
			seen, lost, left = append(seen, -1), lost+span.Lost, nil
		}
		left = append(left, buf[:span.Len]...)
		for len(left) >= frameBytes {
			seen = append(seen, int(binary.BigEndian.Uint32(left[4:])))
			left = left[frameBytes:]
		}
		offset = span.From + uint64(span.Len)
	}
}

func droppedBy(s *Spool, reason string) Dropped {
	for _, d := range s.Dropped() {
		if d.Reason == reason {
			return d
		}
	}
	return Dropped{}
}

// small is a spool that is soon full.
func small(t *testing.T, dir string, full func(string) error) *Spool {
	t.Helper()
	s, err := Open(dir, Config{MaxBytes: 16 << 20, SegmentBytes: 1 << 20, FrameLen: fixedLen, disk: disk{fault: full}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantRun(t *testing.T, got []int, from, to int) {
	t.Helper()
	for i, n := range got {
		if n != from+i {
			t.Fatalf("record %d is at the place of %d", n, from+i)
		}
	}
	if len(got) != to-from {
		t.Fatalf("%d records, want %d to %d", len(got), from, to)
	}
}

func TestDropNewestKeepsTheOldestAndWholeRecords(t *testing.T) {
	dir := t.TempDir()
	s := small(t, dir, nil)
	w := newWriter(t, s, 1, Params{KeepBytes: 1 << 40, OnFull: DropNewest})
	st := w.se.Stream()
	for droppedBy(s, "drop-newest").Bytes < 100*frameBytes {
		w.write(100)
	}
	kept := int(st.Bytes() / frameBytes)
	first := w.next
	if d := droppedBy(s, "drop-newest"); int(d.Records) != first-kept || d.Bytes != d.Records*frameBytes {
		t.Errorf("counted as dropped: %+v; %d of %d records are kept", d, kept, first)
	}
	if part := int64(kept*frameBytes) * 100 / (16 << 20); part < 60 || part > 75 {
		t.Errorf("one stream alone keeps %d %% of the spool", part)
	}
	// A collector takes some; later records are kept again.
	w.ack(st.End() / 2)
	w.write(100)
	// A process that follows knows of the gap, which has one record in its place.
	s = small(t, dir, nil)
	st = s.Of(st.Container())
	seen, lost := numbers(t, st, 0)
	wantRun(t, seen[:kept], 0, kept)
	again := len(seen) - kept - 1
	wantRun(t, seen[kept+1:], w.next-again, w.next)
	if seen[kept] != -1 || again < 90 || int(lost) != (w.next-again-kept)*frameBytes {
		t.Errorf("%d bytes lost, %d records are kept again", lost, again)
	}
}

// A container may end while what it writes is dropped: that is told, too,
// though nothing follows it.
func TestDropNewestAtTheEndIsTold(t *testing.T) {
	dir := t.TempDir()
	s := small(t, dir, nil)
	w := newWriter(t, s, 1, Params{OnFull: DropNewest})
	for droppedBy(s, "drop-newest").Bytes == 0 {
		w.write(100)
	}
	st := w.se.Stream()
	if _, lost := numbers(t, st, 0); lost != 0 {
		t.Errorf("told before the end: %d bytes", lost)
	}
	dropped := uint64(droppedBy(s, "drop-newest").Bytes)
	for range 2 { // also by the process that follows
		if len(s.Of(st.Container()).Sessions()) > 0 {
			if err := s.Of(st.Container()).Sessions()[0].Detach(); err != nil {
				t.Fatal(err)
			}
		}
		st = s.Of(st.Container())
		if seen, lost := numbers(t, st, 0); lost != dropped || seen[len(seen)-1] != -1 {
			t.Errorf("%d bytes lost, want %d", lost, dropped)
		}
		s = small(t, dir, nil)
	}
	st = s.Of(st.Container())
	bytes := st.Bytes()
	if err := st.Ack("a", bytes); err != nil || !st.Pending(bytes) {
		t.Fatalf("the loss is forgotten before it was told: %v", err)
	}
	if _, lost := numbers(t, st, bytes); lost != dropped {
		t.Errorf("%d bytes lost, want %d", lost, dropped)
	}
	if err := st.Ack("a", st.End()); err != nil || len(s.Streams()) != 0 {
		t.Errorf("the stream is still there: %v", err)
	}
	if used, _ := s.Used(); used != 0 || s.protected.Load() != 0 {
		t.Errorf("%d bytes are used by nothing, %d protected", used, s.protected.Load())
	}
}

// Killed while it drops: the seam is found again, and no offset is used twice.
func TestKilledWhileDropping(t *testing.T) {
	dir := t.TempDir()
	s := small(t, dir, nil)
	w := newWriter(t, s, 1, Params{OnFull: DropNewest})
	for droppedBy(s, "drop-newest").Bytes == 0 {
		w.write(100)
	}
	st := w.se.Stream()
	end, kept := st.End(), st.Bytes()
	s = small(t, dir, nil)
	st = s.Of(st.Container())
	if st.End() != end {
		t.Fatalf("ends at %d, was %d", st.End(), end)
	}
	if err := st.Ack("a", kept); err != nil {
		t.Fatal(err)
	}
	w.se = st.Sessions()[0]
	w.write(10)
	r := st.NewReader()
	defer r.Close()
	span, err := r.Read(make([]byte, 100), kept)
	if err != nil || span.From != end || span.Lost != end-kept || !span.Torn {
		t.Errorf("behind the gap: %+v, %v", span, err)
	}
}

func TestThrottledStreamsAreSlowAndLoseNothing(t *testing.T) {
	s := small(t, t.TempDir(), nil)
	w := newWriter(t, s, 1, Params{OnFull: Throttle})
	slow, room := w.se.Slow()
	for !slow {
		w.write(100)
		slow, _ = w.se.Slow()
	}
	if used, dropped := s.Used(); dropped != 0 || used > 16<<20 || used < 10<<20 {
		t.Fatalf("slow at %d bytes, %d dropped", used, dropped)
	}
	select {
	case <-room:
		t.Error("room was announced before any was made")
	default:
	}
	w.ack(w.se.Stream().End() / 2)
	<-room
	if slow, _ := w.se.Slow(); slow {
		t.Error("slow though half of it is acknowledged")
	}
	// What trickles in when there is no room at all replaces the oldest.
	for range 400 {
		w.write(100)
	}
	if used, _ := s.Used(); used > 17<<20 || droppedBy(s, "throttle").Bytes == 0 || w.se.Stream().Start() == 0 {
		t.Errorf("%d bytes are used, %+v", used, s.Dropped())
	}
}

// Who gives way where containers of all policies meet.
func TestPoliciesSideBySide(t *testing.T) {
	s := small(t, t.TempDir(), nil)
	oldest, newest, slow := newWriter(t, s, 1, Params{}), newWriter(t, s, 2, Params{OnFull: DropNewest}), newWriter(t, s, 3, Params{OnFull: Throttle})
	turn := func() {
		for _, w := range []*writer{oldest, newest, slow} {
			if held, _ := w.se.Slow(); !held {
				w.write(50)
			}
			if used, _ := s.Used(); used > 19<<20 { // what is being written counts when it is full
				t.Fatalf("%d bytes are used", used)
			}
		}
	}
	for oldest.next < 60_000 {
		turn()
	}
	if d := droppedBy(s, "throttle"); d.Bytes != 0 {
		t.Errorf("the throttled stream lost %d bytes", d.Bytes)
	}
	if newest.se.Stream().Start() != 0 || slow.se.Stream().Start() != 0 {
		t.Error("protected data was evicted")
	}
	for name, w := range map[string]*writer{"drop-oldest": oldest, "drop-newest": newest, "throttle": slow} {
		if n := w.se.Stream().Bytes(); n < 1<<20 {
			t.Errorf("%s is left with %d bytes of the spool", name, n)
		}
	}
	// One that begins when all is full gets its share.
	late := newWriter(t, s, 4, Params{OnFull: DropNewest})
	late.write(500)
	if late.se.Stream().Bytes() != 500*frameBytes {
		t.Errorf("a late stream keeps %d of %d bytes", late.se.Stream().Bytes(), 500*frameBytes)
	}
}

func TestAFullDiskAndThePolicies(t *testing.T) {
	for _, policy := range []OnFull{DropOldest, DropNewest, Throttle} {
		dir := t.TempDir()
		d := &fullDisk{dir: dir, room: 3 << 20}
		s := small(t, dir, d.fault)
		w := newWriter(t, s, 1, Params{OnFull: policy})
		w.write(10_000)
		st := w.se.Stream()
		if lost := droppedBy(s, policy.String()).Bytes; lost < 1<<20 {
			t.Errorf("%v: dropped %+v", policy, s.Dropped())
		}
		if (st.Start() == 0) != (policy == DropNewest) {
			t.Errorf("%v: the stream begins at %d", policy, st.Start())
		}
		if slow, _ := w.se.Slow(); slow != (policy == Throttle) {
			t.Errorf("%v: slow is %v", policy, slow)
		}
		if policy == DropNewest {
			numbers(t, st, 0)
		}
	}
}

// A disk that takes nothing leaves a gap of whole records, as far as they are known.
func TestDiscardLeavesWholeRecords(t *testing.T) {
	broken := false
	s := small(t, t.TempDir(), func(op string) error {
		if broken && op != "write at" {
			return unix.EIO
		}
		return nil
	})
	w := newWriter(t, s, 1, Params{KeepBytes: 1 << 30})
	w.write(10)
	broken = true
	write(t, w.w, append(frame(10), frame(11)[:20]...))
	if n, err := w.se.Discard(w.r, 1<<20); n != frameBytes+20 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	broken = false
	write(t, w.w, append(frame(11)[20:], frame(12)...))
	drain(t, w.se, w.r)
	seen, lost := numbers(t, w.se.Stream(), 0)
	if fmt.Sprint(seen) != "[0 1 2 3 4 5 6 7 8 9 -1 12]" || lost != 2*frameBytes || droppedBy(s, "disk").Records != 2 {
		t.Errorf("%v, %d lost, %+v", seen, lost, droppedBy(s, "disk"))
	}
}
