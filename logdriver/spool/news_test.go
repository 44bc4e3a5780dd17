package spool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A quiet container's only segment is closed and evicted. Whatever becomes of
// the process, no offset is given out twice, and the loss is told.
func TestEvictedToTheLastByte(t *testing.T) {
	for name, tc := range map[string]struct{ killed, ended, full bool }{
		"lives on":                    {},
		"killed":                      {killed: true},
		"ended":                       {ended: true},
		"ended and killed":            {killed: true, ended: true},
		"killed, on a full disk":      {killed: true, full: true},
		"lives on, with a full disk":  {full: true},
		"ended, with a disk that was": {ended: true, full: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, full := t.TempDir(), false
			s := small(t, dir, func(op string) error {
				if op == "remove" {
					full = false
				}
				if full {
					return unix.ENOSPC
				}
				return nil
			})
			w := newWriter(t, s, 1, Params{})
			w.write(10)
			write(t, w.w, frame(10)[:100]) // killed in the middle of one
			drain(t, w.se, w.r)
			w.ack(3 * frameBytes)
			st := w.se.Stream()
			end, lost := st.End(), st.End()-3*frameBytes
			if tc.ended {
				if err := w.se.Detach(); err != nil {
					t.Fatal(err)
				}
			}
			full = tc.full
			st.seal()
			st.evict(0, true)
			if st.Bytes() != 0 {
				t.Fatal("nothing was evicted")
			}
			for range 3 {
				if tc.killed {
					s = small(t, dir, nil)
				}
				if st = s.Of(st.Container()); st == nil || st.End() != end {
					t.Fatalf("%+v does not end at %d", st, end)
				}
			}
			if tc.ended {
				toldOfTheEnd(t, s, st, end, lost)
				return
			}
			w.se = st.Sessions()[0]
			write(t, w.w, frame(10)[100:])
			w.next = 11
			w.write(5)
			r := st.NewReader()
			defer r.Close()
			span, err := r.Read(make([]byte, 100), 3*frameBytes)
			if err != nil || span.From != end || span.Lost != lost || !span.Torn {
				t.Errorf("behind the gap: %+v, %v", span, err)
			}
			if err := st.Ack("a", st.End()); err != nil || len(st.drops) != 0 {
				t.Errorf("%v, still to be told: %+v", err, st.drops)
			}
		})
	}
}

// toldOfTheEnd reads a stream of which nothing is left.
func toldOfTheEnd(t *testing.T, s *Spool, st *Stream, end, lost uint64) {
	t.Helper()
	r := st.NewReader()
	defer r.Close()
	span, err := r.Read(nil, 3*frameBytes)
	if err != nil || span.From != end || span.Lost != lost || !span.Final {
		t.Errorf("%+v, %v", span, err)
	}
	if _, err := r.Read(nil, end); !errors.Is(err, io.EOF) {
		t.Errorf("behind it: %v", err)
	}
	if err := st.Ack("a", end); err != nil || len(s.Streams()) != 0 {
		t.Errorf("the stream is still there: %v", err)
	}
	if used, _ := s.Used(); used != 0 {
		t.Errorf("%d bytes are used by nothing", used)
	}
}

// However often that happens, one file says it.
func TestEvictedAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	s := small(t, dir, nil)
	w := newWriter(t, s, 1, Params{})
	st := w.se.Stream()
	for i := range 20 {
		if i%5 == 4 { // the container starts again
			if err := w.se.Detach(); err != nil {
				t.Fatal(err)
			}
			w.se = attach(t, s, Params{Container: st.Container(), Routes: []string{"a"}}, fmt.Sprint("/fifo/again", i))
		}
		w.write(3)
		st.seal()
		st.evict(st.End(), true)
	}
	files, err := filepath.Glob(filepath.Join(st.dir, "*"+dropExt))
	if used, _ := s.Used(); err != nil || len(files) != 1 || used != overhead {
		t.Errorf("%v, %v, %d bytes are used", files, err, used)
	}
	if st = small(t, dir, nil).Of(st.Container()); st.End() != 60*frameBytes {
		t.Errorf("ends at %d", st.End())
	}
}

// What is acknowledged is no news.
func TestNoNewsOfWhatWasDelivered(t *testing.T) {
	s := small(t, t.TempDir(), nil)
	w := newWriter(t, s, 1, Params{KeepBytes: 1 << 20})
	w.write(3)
	w.ack(3 * frameBytes)
	st := w.se.Stream()
	st.seal()
	st.evict(0, true)
	if len(st.drops) != 0 || st.Bytes() != 0 {
		t.Errorf("%d bytes are left, %+v to be told", st.Bytes(), st.drops)
	}
}

// A great many short containers, of which no collector takes anything: the news
// of them is bounded, and the newest of it is kept.
func TestNewsIsBounded(t *testing.T) {
	const most = 8
	s, err := Open(t.TempDir(), Config{MaxBytes: most * newsShare * overhead, SegmentBytes: 1 << 20, FrameLen: fixedLen}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for ; last < 600; last++ {
		w := newWriter(t, s, last, Params{})
		w.write(10)
		if err := w.se.Detach(); err != nil {
			t.Fatal(err)
		}
		if used, _ := s.Used(); used > s.cfg.MaxBytes+1<<20 {
			t.Fatalf("%d bytes are used", used)
		}
	}
	if n := len(s.victims(forgotten)); n != most {
		t.Errorf("%d streams are only news, want %d", n, most)
	}
	if st := s.Of(fmt.Sprintf("%064x", 0)); st != nil {
		t.Error("the oldest news is still there")
	}
	if st := s.Of(fmt.Sprintf("%064x", last-1)); st == nil || st.Bytes() == 0 {
		t.Error("the newest container's records are gone")
	}
}

// Killed at any change that such an eviction makes: either the bytes are there
// or the news of them, and the end is where it was.
func TestKilledWhileEvicting(t *testing.T) {
	for kill := 0; ; kill++ {
		dir, l := t.TempDir(), &life{left: -1}
		s := small(t, dir, l.fault)
		w := newWriter(t, s, 1, Params{})
		st := w.se.Stream()
		w.write(3)
		st.seal()
		st.evict(0, true) // there is older news
		w.write(4)
		st.seal()
		l.left = kill
		st.evict(st.End(), true)
		s = small(t, dir, nil)
		st = s.Of(st.Container())
		if st == nil || st.End() != 7*frameBytes {
			t.Fatalf("killed after %d changes: %+v does not end at %d", kill, st, 7*frameBytes)
		}
		if err := st.Sessions()[0].Detach(); err != nil {
			t.Fatal(err)
		}
		var at, kept, lost uint64
		r := st.NewReader()
		for {
			span, err := r.Read(make([]byte, 4096), at)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			at, kept, lost = span.From+uint64(span.Len), kept+uint64(span.Len), lost+span.Lost
		}
		r.Close()
		if all := uint64(7 * frameBytes); kept+lost != all || lost != all && lost != 3*frameBytes {
			t.Errorf("killed after %d changes: %d bytes are kept, %d are told lost", kill, kept, lost)
		}
		if err := st.Ack("a", st.End()); err != nil || len(s.Streams()) != 0 {
			t.Errorf("killed after %d changes: something is left, %v", kill, err)
		}
		if !l.killed {
			return
		}
	}
}
