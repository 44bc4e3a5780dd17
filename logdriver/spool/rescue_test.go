package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// adoptAll is what a plugin does that can read the spool again.
func adoptAll(s *Spool) error {
	all, err := s.Rescued()
	for _, r := range all {
		se := s.SessionOf(r.FIFO)
		if se == nil {
			var aerr error
			if se, _, aerr = s.Attach(Params{Container: owner, Info: r.Info, KeepBytes: 1 << 30, Routes: []string{"a"}}, r.FIFO); aerr != nil {
				return aerr
			}
		}
		err = errors.Join(err, se.Adopt(r))
	}
	return err
}

// What is put aside goes on where the session was, once and whole, wherever
// the one who takes it over is killed; so does a session that began meanwhile.
func TestWhatWasPutAsideIsTakenOver(t *testing.T) {
	for kill := 0; ; kill++ {
		dir := t.TempDir()
		cfg := Config{MaxBytes: 1 << 30, SegmentBytes: 64}
		s := open(t, dir, cfg)
		r1, w1 := pipe(t)
		r2, w2 := pipe(t)
		se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 30, Routes: []string{"a"}}, "/fifo/1")
		first, second, other := bytes.Repeat([]byte("first "), 30), bytes.Repeat([]byte("second "), 30), bytes.Repeat([]byte("other "), 30)
		write(t, w1, first)
		drain(t, se, r1)

		aside, err := OpenRescue(dir, cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []struct {
			fifo  string
			info  json.RawMessage
			r, w  int
			bytes []byte
		}{{"/fifo/1", nil, r1, w1, second}, {"/fifo/2", json.RawMessage(`{}`), r2, w2, other}} {
			to, err := aside.Take(c.fifo, c.info)
			if err != nil {
				t.Fatal(err)
			}
			for _, half := range [][]byte{c.bytes[:50], c.bytes[50:]} {
				write(t, c.w, half)
				for n := 1; n > 0; {
					if n, err = to.Splice(c.r, 1<<20); err != nil && !errors.Is(err, unix.EAGAIN) {
						t.Fatal(i, err)
					}
				}
				to.Close()
			}
		}

		l := &life{left: kill}
		if killed, err := Open(dir, Config{MaxBytes: 1 << 30, SegmentBytes: 64, disk: disk{fault: l.fault}}, slog.New(slog.DiscardHandler)); err == nil {
			_ = adoptAll(killed)
		}
		s = open(t, dir, cfg)
		if err := adoptAll(s); err != nil {
			t.Fatal(err)
		}
		want := bytes.Join([][]byte{first, second, []byte("|"), other}, nil)
		if got := readAll(t, s.Of(owner), 0); !bytes.Equal(got, want) {
			t.Fatalf("killed at %d: %q", kill, got)
		}
		if left, err := os.ReadDir(filepath.Join(dir, rescueDir)); err != nil || len(left) > 0 {
			t.Fatalf("killed at %d: %v is left (%v)", kill, left, err)
		}
		if !l.killed {
			return
		}
	}
}
