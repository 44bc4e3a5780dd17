package history

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fact is what a reference knows: a collector got records of a container then.
type fact struct {
	n         int
	collector string
	at        int64
	size      int // of the file when that was known to it
}

// wantAll fails for each fact that a history denies, where it says that it knows.
func wantAll(t *testing.T, h *History, facts []fact, what string) {
	t.Helper()
	for _, f := range facts {
		all, err := h.Where(Query{Container: fmt.Sprintf("%064x", f.n), From: moment(f.at), To: moment(f.at)})
		if none := new(NotFoundError); errors.As(err, &none) && f.at < none.Since.UnixNano() {
			continue // forgotten
		} else if err != nil {
			t.Fatalf("%s: records of %d at %v: %v", what, f.n, moment(f.at), err)
		}
		a := all[0]
		if !a.Complete {
			continue
		}
		if !strings.Contains(fmt.Sprint(a.Collectors)+" ", f.collector) {
			t.Fatalf("%s: %s holds records of %d at %v; the answer is %s", what, f.collector, f.n, moment(f.at), text(a))
		}
		for _, i := range a.Intervals {
			if i.Exact && i.Collector != f.collector {
				t.Fatalf("%s: %s alone is said to hold what %s holds", what, i.Collector, f.collector)
			}
		}
	}
}

// Whatever happens, an answer names every collector that acknowledged something
// of that time, or says that it does not know. Random batches on small bounds,
// with restarts and kills between them, against a list of all.
func TestNeverSaysTooLittle(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			now := start
			r := newRig(t, Options{File: filepath.Join(memory(t, 1<<20), "placement"), MaxBytes: 8 << (10 + rnd.IntN(4))})
			streams, collectors := 1+rnd.IntN(60), 1+rnd.IntN(8)
			home := make([]int, streams)
			var facts []fact
			known := 0
			for range 800 {
				now += rnd.Int64N(int64(20 * time.Second))
				r.now.Store(now)
				n := rnd.IntN(streams)
				if rnd.IntN(4) == 0 {
					home[n] = rnd.IntN(collectors)
				}
				b := batch(n, fmt.Sprint("c", home[n]), 0, 0)
				b.Created = at(0)
				b.Last = now - rnd.Int64N(int64(time.Minute))
				if rnd.IntN(10) == 0 {
					b.Last = now - rnd.Int64N(int64(time.Hour)) // a backlog
				}
				b.Last = max(b.Last, start)
				b.First = max(b.Last-rnd.Int64N(int64(30*time.Second)), start)
				r.Note(b)
				facts = append(facts, fact{n: n, collector: b.Collector, at: b.First}, fact{n: n, collector: b.Collector, at: b.Last})
				switch rnd.IntN(200) {
				case 0:
					r.restart()
				case 1:
					r.kill()
				}
			}
			wantAll(t, r.History, facts, "at the end")
			r.kill()
			wantAll(t, r.History, facts, "after a kill")
			r.restart()
			wantAll(t, r.History, facts, "after a restart")
			for _, f := range facts {
				if all, err := r.Where(Query{Container: fmt.Sprintf("%064x", f.n), From: moment(f.at), To: moment(f.at)}); err == nil && all[0].Complete {
					known++
				}
			}
			if int64(streams)*500 < r.opts.MaxBytes*liveShare/shares && known < len(facts)/2 {
				t.Errorf("only %d of %d are known", known, len(facts))
			}
		})
	}
}

// story makes a file in several steps, and the facts that it holds after each.
func story(t *testing.T) (opts Options, data []byte, facts []fact) {
	r := newRig(t, Options{File: filepath.Join(memory(t, 1<<20), "placement")})
	opts, now := r.opts, 0.0
	for i := range 24 {
		now = float64(30 * i)
		r.set(now)
		b := batch(i%3, string("abcd"[i%4]), now, now+1)
		b.Created = at(0)
		r.Note(b)
		info, err := os.Stat(opts.File)
		if err != nil {
			t.Fatal(err)
		}
		facts = append(facts, fact{i % 3, b.Collector, b.First, int(info.Size())}, fact{i % 3, b.Collector, b.Last, int(info.Size())})
	}
	r.mu.Lock()
	for _, st := range r.streams {
		r.coarsenLocked(st, 6)
	}
	r.mu.Unlock()
	b := batch(9, "a", now, now+1)
	r.Note(b)
	r.set(now + 100)
	data, err := os.ReadFile(opts.File)
	if err != nil {
		t.Fatal(err)
	}
	return opts, data, facts
}

// A file that ends anywhere holds what was written down before.
func TestCutAtEveryByte(t *testing.T) {
	opts, data, facts := story(t)
	for n := len(data); n >= headerBytes; n-- {
		if err := os.WriteFile(opts.File, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		h := Open(opts)
		var then []fact
		for _, f := range facts {
			if f.size <= n {
				then = append(then, f)
			}
		}
		wantAll(t, h, then, fmt.Sprintf("cut at %d of %d", n, len(data)))
		if n == len(data) && len(then) != len(facts) {
			t.Fatalf("%d of %d facts", len(then), len(facts))
		}
		h.closeFile()
	}
	for n := range headerBytes {
		if err := os.WriteFile(opts.File, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		h := Open(opts)
		if s := h.Stats(); s.Streams != 0 || !s.Since.Equal(opts.Now()) {
			t.Fatalf("cut at %d: %+v", n, s)
		}
		h.closeFile()
	}
}

// A byte that is wrong ends nothing: what stands before it holds, and the rest
// is said not to be known.
func TestDamageAtEveryByte(t *testing.T) {
	opts, data, facts := story(t)
	for n := range data {
		bad := append([]byte(nil), data...)
		bad[n] ^= 0x41
		if err := os.WriteFile(opts.File, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		h := Open(opts)
		wantAll(t, h, facts, fmt.Sprintf("byte %d", n))
		h.closeFile()
	}
	if _, err := os.Stat(opts.File + ".damaged"); err != nil {
		t.Errorf("no copy is kept: %v", err)
	}
}

// A power cut takes what was not synced; the answer says so. A host that went
// down in order took nothing.
func TestHostGoesDown(t *testing.T) {
	r := newRig(t, Options{})
	b := batch(1, "a", 5, 6)
	b.Created = at(1)
	r.Note(b)
	r.set(100)
	r.opts.Boot = "boot-2"
	r.restart()
	if a := r.where("web-1", 0, 1e3); !a.Exact || len(a.Gaps) > 0 {
		t.Errorf("after an orderly end: %+v", a)
	}
	r.Note(batch(1, "a", 100, 101))
	r.set(200)
	r.opts.Boot = "boot-3"
	r.kill()
	a := r.where("web-1", 0, 1e3)
	if a.Complete || len(a.Gaps) != 1 || !a.Gaps[0].From.Equal(at(100)) || !a.Gaps[0].To.Equal(at(200)) {
		t.Errorf("after a power cut: %+v", a)
	}
	if a := r.where("web-1", 201, 1e3); !a.Complete {
		t.Errorf("what came later: %+v", a)
	}
	r.restart()
	if a := r.where("web-1", 0, 1e3); len(a.Gaps) != 1 {
		t.Errorf("the gap is forgotten: %+v", a)
	}
}

// After a kill, what was going on is known up to a moment that lies ahead, and
// goes on as one interval.
func TestKilledInTheMiddle(t *testing.T) {
	r := newRig(t, Options{})
	for i := range 50 {
		r.Note(batch(1, "a", float64(i), float64(i)+1))
	}
	r.set(50)
	r.kill()
	if got := text(r.where("web-1", 0, 1e3)); got != "a 0-50 10+;" {
		t.Errorf("after the kill: %s", got)
	}
	r.Note(batch(1, "a", 51, 52))
	if got := text(r.where("web-1", 0, 1e3)); got != "a 0-50 20+;" {
		t.Errorf("going on: %s", got)
	}
	r.set(500)
	r.Note(batch(1, "a", 499, 500))
	if got := text(r.where("web-1", 0, 1e3)); got != "a 0-500 30+;" {
		t.Errorf("later: %s", got)
	}
}
