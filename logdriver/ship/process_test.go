package ship

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"

	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/record"
)

func specOf(t *testing.T, opts ...string) *process.Spec {
	t.Helper()
	given := map[string]string{}
	for _, o := range opts {
		k, v, _ := strings.Cut(o, "=")
		given[k] = v
	}
	s, err := process.Parse("log-opt", given)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// written encodes one line, as the engine does.
func written(t *testing.T, source, line string, at int64) []byte {
	t.Helper()
	var b strings.Builder
	if err := stock.NewLogEntryEncoder(&b).Encode(&stock.LogEntry{Source: source, Line: []byte(line), TimeNano: at}); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

// quoted is a peer that says all there is of a record, on one line.
type quoted struct{ *peer }

func (p quoted) Prepare(*Meta) Template { return quotedTemplate{} }

type quotedTemplate struct{}

func (quotedTemplate) Append(dst []byte, r *Record) []byte {
	dst = fmt.Appendf(dst, "%d %q %v", r.Offset, r.Line, r.Level)
	for _, f := range r.Fields {
		dst = fmt.Appendf(dst, " %s=%s", f.Key, f.Value)
	}
	return append(dst, '\n')
}

// stacks writes records of several lines, of both sources, and returns what they
// are when joined.
func stacks(t *testing.T, m *memory, rnd *rand.Rand, n int) (want []string) {
	var open [2]string
	for i := range n {
		at := rnd.IntN(2)
		line := fmt.Sprintf(" at %d", i)
		if open[at] == "" || rnd.IntN(3) == 0 {
			if open[at] != "" {
				want = append(want, fmt.Sprintf("%q", open[at]))
			}
			open[at], line = "", fmt.Sprintf("# %d", i)
		} else {
			open[at] += "\n"
		}
		open[at] += line
		m.data = append(m.data, written(t, sourceNames[at], line, int64(i))...)
	}
	for at := range open {
		want = append(want, fmt.Sprintf("%q", open[at]))
	}
	slices.Sort(want)
	return want
}

// Wherever the process dies, or a connection breaks, every record of several lines
// arrives whole, under one id; also where each goes to a collector of its own.
func TestOpenRecordsSurvive(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) { killAmidStacks(t, seed) })
	}
}

func killAmidStacks(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	m := newMemory()
	want := stacks(t, m, rnd, 4000)
	m.ended = true
	peers := peersNamed("a b c")
	pool := quotedOf(peers)
	spec := specOf(t, "multiline-start=^#", "multiline-timeout=1s")
	for run := 0; m.Cursor() < uint64(len(m.data)); run++ {
		if run > 200 {
			t.Fatalf("seed %d: acknowledged %d of %d", seed, m.Cursor(), len(m.data))
		}
		for _, p := range peers {
			p.set(func() {
				p.silent = run < 20 && rnd.IntN(2) == 0
				p.breakAt = nil
				if run < 20 && rnd.IntN(3) == 0 {
					p.breakAt = func() (int, int) { return 1, 1 }
				}
			})
		}
		s := New(quiet)
		s.Add(m, &Meta{Stream: "s", Process: spec}, pool, Key{Value: "s", PerRecord: seed%2 == 0})
		time.Sleep(time.Duration(rnd.IntN(12)) * time.Millisecond)
		m = crash(s, m)
	}
	ids := map[string]string{}
	for _, p := range peers {
		for _, l := range p.received() {
			id, line, _ := strings.Cut(strings.TrimSuffix(l, " "), " ")
			if was, ok := ids[id]; ok && was != line {
				t.Fatalf("seed %d: %s was %s and is %s", seed, id, was, line)
			}
			ids[id] = line
		}
	}
	var got []string
	for _, line := range ids {
		got = append(got, line)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("seed %d: %d records came of %d", seed, len(got), len(want))
	}
}

// A record that waits for its next line keeps the cursor before it, and is sent
// when none comes.
func TestOpenRecordWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		p := poolOf(nil, "a")
		p.Collectors = []Collector{{Name: "a", Sink: quoted{a}}}
		s.Add(m, &Meta{Stream: "s", Process: specOf(t, "multiline=java", "multiline-timeout=2s")}, p, Key{Value: "s"})
		first := written(t, "stdout", "plain", 1)
		m.write(first)
		boom := written(t, "stdout", "App: boom", 2)
		m.write(boom)
		m.write(written(t, "stdout", "\tat x", 3))
		time.Sleep(time.Second)
		if got := a.received(); len(got) != 1 || m.Cursor() != uint64(len(first)) {
			t.Errorf("cursor at %d, came %q", m.Cursor(), got)
		}
		time.Sleep(2 * time.Second)
		want := []string{`0 "plain"`, fmt.Sprintf(`%d "App: boom\n\tat x"`, record.ID(uint64(len(first)), uint64(len(boom))))}
		if got := a.received(); !slices.Equal(got, want) || m.Cursor() != uint64(len(m.data)) {
			t.Errorf("cursor at %d of %d, came %q", m.Cursor(), len(m.data), got)
		}
	})
}

// A stream that waits for its rate holds up no other, and loses nothing.
func TestDelayHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		slow, other := newMemory(), newMemory()
		slow.write(frames(t, 0, 100))
		other.write(frames(t, 0, 5000))
		p := poolOf(map[string]*peer{"a": a}, "a")
		s.Add(slow, &Meta{Stream: "slow", Process: specOf(t, "rate=10", "rate-mode=delay")}, p, Key{Value: "x"})
		add(t, s, other, "other", p)
		time.Sleep(2500 * time.Millisecond)
		if check(t, a.received(), "other", 5000) > 0 {
			t.Error("the other had to wait")
		}
		n := 0
		for _, l := range a.received() {
			if strings.HasPrefix(l, "slow ") {
				n++
			}
		}
		if n < 30 || n > 36 {
			t.Errorf("after 2.5 s there are %d records of 10 a second and a burst of 10", n)
		}
		slow.end()
		time.Sleep(10 * time.Second)
		if check(t, a.received(), "slow", 100) > 0 || slow.Cursor() != uint64(len(slow.data)) || s.Len() != 1 {
			t.Errorf("acknowledged %d of %d", slow.Cursor(), len(slow.data))
		}
	})
}

// What is dropped for its rate, or filtered, is acknowledged once that has been said.
func TestDropsAreSaidAndAcknowledged(t *testing.T) {
	for _, perRecord := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			peers := peersNamed("a b")
			s := New(quiet)
			defer s.Close()
			m := newMemory()
			s.Add(m, &Meta{Stream: "s", Process: specOf(t, "rate=1", "burst=5", "exclude=[13579]$")}, membersOf(peers, nil), Key{Value: "s", PerRecord: perRecord})
			m.write(frames(t, 0, 1000))
			time.Sleep(500 * time.Millisecond)
			if m.Cursor() >= uint64(len(m.data)) {
				t.Error("all is acknowledged, and what was dropped is not told")
			}
			time.Sleep(5 * time.Second)
			got, said := 0, false
			for _, p := range peers {
				for _, l := range p.received() {
					got++
					said = said || strings.Contains(l, "[dockline] 495 records of this container were left out here")
				}
			}
			if got != 6 || !said || m.Cursor() != uint64(len(m.data)) {
				t.Errorf("per record %v: %d came, told %v, acknowledged %d of %d", perRecord, got, said, m.Cursor(), len(m.data))
			}
			if n, d := s.Stats.Process.Filtered.Load(), s.Stats.Process.RateDropped.Load(); n != 500 || d != 495 {
				t.Errorf("%d filtered, %d dropped", n, d)
			}
		})
	}
}

// Fields and level reach a collector whichever way a record takes.
func TestFieldsArrive(t *testing.T) {
	for _, perRecord := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a := &peer{}
			s := New(quiet)
			defer s.Close()
			m := newMemory()
			p := membersOf(map[string]*peer{"a": a}, nil)
			p.Collectors[0].Sink = quoted{a}
			s.Add(m, &Meta{Stream: "s", Process: specOf(t, "parse=json")}, p, Key{Value: "s", PerRecord: perRecord})
			for i := range 200 {
				m.write(written(t, "stdout", fmt.Sprintf(`{"level":"warn","msg":"m%d","n":%d,"t":"a\tb"}`, i, i), int64(i+1)))
			}
			time.Sleep(10 * time.Second)
			got := a.received()
			for i := range 200 {
				want := fmt.Sprintf(`"m%d" warn n=%d t=a	b`, i, i)
				if len(got) != 200 || !strings.HasSuffix(got[i], want) {
					t.Fatalf("per record %v: %d came, %q, want %q", perRecord, len(got), got[min(i, len(got)-1)], want)
				}
			}
		})
	}
}
