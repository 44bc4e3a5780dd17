package ship

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"
)

// Sleeps here are in bubbles of testing/synctest: they take no time, and end when
// every goroutine waits.

// part is one chunk of a line, as the engine writes it.
func part(t *testing.T, source, text string, ordinal int, last bool) []byte {
	t.Helper()
	e := &stock.LogEntry{Source: source, TimeNano: 1, Line: []byte(text), Partial: true,
		PartialLogMetadata: &stock.PartialLogEntryMetadata{Id: "id-" + source, Ordinal: int32(ordinal), Last: last}}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// quotedOf is the pool of peers that write down what they are sent in quotes.
func quotedOf(peers map[string]*peer) Pool {
	pool := membersOf(peers, nil)
	for i := range pool.Collectors {
		pool.Collectors[i].Sink = quoted{pool.Collectors[i].Sink.(*peer)}
	}
	return pool
}

// crash has a stream be read again from its cursor by a process that knows nothing.
func crash(s *Shipper, m *memory) *memory {
	m.mu.Lock() // what is acknowledged from here on is as if it had not been
	next := &memory{data: m.data, session: m.session, ended: m.ended, cursor: m.cursor, beyond: slices.Clone(m.beyond), watchers: map[*func()]struct{}{}}
	m.mu.Unlock()
	s.Close()
	return next
}

// What was given out because nothing came for a while is longer when it is read
// again. Under one id there is never more than one text, so that a collector that
// drops ids that it knows has all that was written.
func TestWhatTimeCutOffHasAnIDOfItsOwn(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) { replay(t, seed) })
	}
}

func replay(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	peers := peersNamed("a b")
	pool := quotedOf(peers)
	meta := &Meta{Stream: "s"}
	if seed%3 == 0 {
		meta.Process = specOf(t, "multiline-start=^#", "multiline-timeout=50ms")
	}
	m, s := newMemory(), New(quiet)
	begin := func() { s.Add(m, meta, pool, Key{Value: "s", PerRecord: seed%2 == 0}) }
	begin()
	ordinal := [2]int{}
	const n = 200
	for i := range n {
		at := rnd.IntN(2)
		ordinal[at]++
		last := rnd.IntN(4) == 0
		if text := fmt.Sprintf("%d,", i); meta.Process == nil {
			m.write(part(t, sourceNames[at], text, ordinal[at], last))
		} else {
			m.write(written(t, sourceNames[at], text, time.Now().UnixNano()))
		}
		if last {
			ordinal[at] = 0
		}
		switch rnd.IntN(12) {
		case 0:
			time.Sleep(11 * time.Second) // what is open is given out
		case 1:
			time.Sleep(60 * time.Millisecond)
		case 2: // received, and not acknowledged
			for _, p := range peers {
				p.set(func() { p.silent = rnd.IntN(2) == 0 })
			}
		case 3:
			m, s = crash(s, m), New(quiet)
			begin()
		}
	}
	m.end()
	for _, p := range peers {
		p.set(func() { p.silent = false })
	}
	m, s = crash(s, m), New(quiet)
	begin()
	time.Sleep(time.Minute)
	s.Close()
	ids := map[string]string{}
	for _, p := range peers {
		for _, l := range p.received() {
			id, line, _ := strings.Cut(l, " ")
			if was, ok := ids[id]; ok && was != line {
				t.Fatalf("seed %d: %s was %s and is %s", seed, id, was, line)
			}
			ids[id] = line
		}
	}
	var all strings.Builder
	for _, line := range ids {
		all.WriteString("," + strings.NewReplacer(`"`, ",", `\n`, ",").Replace(line))
	}
	for i := range n {
		if !strings.Contains(all.String(), fmt.Sprintf(",%d,", i)) {
			t.Errorf("seed %d: %d is gone", seed, i)
		}
	}
	if m.Cursor() != uint64(len(m.data)) {
		t.Errorf("seed %d: acknowledged %d of %d", seed, m.Cursor(), len(m.data))
	}
}

// What is sent again after a connection broke is dropped for its rate, or passes,
// as before, and what says how much was dropped is no record's id.
func TestRateIsTheSameAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		p := poolOf(nil, "a")
		p.Collectors = []Collector{{Name: "a", Sink: quoted{a}}}
		for i := range 5000 { // a record a millisecond
			m.data = append(m.data, written(t, "stdout", fmt.Sprint(i), int64(i)*int64(time.Millisecond))...)
		}
		broken := 0
		a.breakAt = func() (int, int) { // after two batches, of which one is acknowledged
			if broken++; broken > 3 {
				a.breakAt = nil
			}
			return 2, 1
		}
		s.Add(m, &Meta{Stream: "s", Process: specOf(t, "rate=100", "burst=20")}, p, Key{Value: "s"})
		time.Sleep(time.Minute)
		ids, marks := map[string]string{}, 0
		for _, l := range a.received() {
			id, line, _ := strings.Cut(l, " ")
			if was, ok := ids[id]; ok && was != line {
				t.Fatalf("%s was %s and is %s", id, was, line)
			}
			if ids[id] = line; strings.Contains(line, "[dockline]") {
				marks++
			}
		}
		if n := len(ids) - marks; n < 500 || n > 520 {
			t.Errorf("%d records passed at a rate of 100 for 5 s, after a burst of 20", n)
		}
		if broken < 3 {
			t.Fatalf("%d connections broke", broken)
		}
	})
}

// The cursor of a stream that is never at rest, and of which nothing is sent,
// moves on all the same.
func TestFilteredAndBusy(t *testing.T) {
	for _, perRecord := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			peers := peersNamed("a b")
			s := New(quiet)
			defer s.Close()
			m := &endless{memory: newMemory()}
			m.data = frames(t, 0, 5000)
			m.first = len(m.data)
			s.Add(m, &Meta{Stream: "s", Process: specOf(t, "exclude=.")}, membersOf(peers, nil), Key{Value: "s", PerRecord: perRecord})
			synctest.Wait()
			if m.behind > 3*windowBytes || m.Cursor() != uint64(len(m.data)) {
				t.Errorf("per record %v: the cursor was up to %d bytes behind, and is at %d of %d", perRecord, m.behind, m.Cursor(), len(m.data))
			}
			m.write(part(t, "stdout", "begun", 1, false))
			synctest.Wait()
			if n := s.open.Used(); n != 5 {
				t.Errorf("per record %v: %d bytes are held", perRecord, n)
			}
			s.Remove("s", "pool")
			synctest.Wait()
			if n := s.open.Used(); n != 0 {
				t.Errorf("per record %v: %d bytes are held", perRecord, n)
			}
		})
	}
}

// endless is a stream that has more at every look, up to a length.
type endless struct {
	*memory
	first  int    // bytes, which come again and again
	behind uint64 // that the cursor was at most
}

func (e *endless) Read(p []byte, offset uint64) (Span, error) {
	e.mu.Lock()
	e.behind = max(e.behind, offset-e.cursor)
	if first := e.data[:e.first]; len(e.data) < 2<<20 {
		e.data = append(e.data, first...)
	}
	e.mu.Unlock()
	return e.memory.Read(p, offset)
}
