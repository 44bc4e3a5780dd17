package spool

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

var rounds = flag.Int("powercut.rounds", 0, "how often each power cut is tried with each fate, each time with another outcome; 0: with two of the fates only, once")

// machine is what outlives a process and, but for pipes, a power cut, and the
// one who watches: every record that could be read at any time counts as
// shipped under its id.
type machine struct {
	t       *testing.T
	r       *rand.Rand
	dir     string
	platter *platter
	boots   int
	life    *life
	spool   *Spool

	run   int            // of the container
	here  []string       // frames of this run
	calm  bool           // there was no power cut since it last looked
	pipe  map[int][2]int // of each run
	seq   int
	wrote map[string]bool   // frames
	ids   map[string]string // record id → frame, of all that was ever seen
	where map[string]string // frame → record id
	found map[string]bool   // ids that could be read when it last looked
	safe  map[string]bool   // ids that were synced
	acked map[string]bool   // ids that were told to be acknowledged
	firm  map[string]bool   // those of which the spool said that it had noted it, and no power was cut since
}

func newMachine(t *testing.T, seed uint64) *machine {
	m := &machine{
		t: t, r: rand.New(rand.NewPCG(seed, 1)), boots: 1, pipe: map[int][2]int{}, wrote: map[string]bool{},
		ids: map[string]string{}, where: map[string]string{}, safe: map[string]bool{}, acked: map[string]bool{}, firm: map[string]bool{},
	}
	m.place()
	return m
}

// place gives the machine an empty directory, in memory: syncs are counted, not
// waited for.
func (m *machine) place() {
	dir, err := os.MkdirTemp("/dev/shm", "dockline-test-")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m.dir = dir
}

func (m *machine) boot(kill int) {
	if m.platter == nil {
		m.platter = newPlatter(m.t, m.dir)
	}
	m.life, m.spool = &life{left: kill}, nil
	s, err := Open(m.dir, Config{
		MaxBytes: 1 << 40, SegmentBytes: 96, FrameLen: frameLen,
		disk: disk{fault: m.life.fault, made: m.platter.made, boot: fmt.Sprint("boot-", m.boots)},
	}, slog.New(slog.DiscardHandler))
	switch {
	case err == nil:
		m.spool = s
	case !m.life.killed:
		m.t.Fatalf("open in boot %d: %v", m.boots, err)
	}
}

// cut is a power cut: pipes and engine are gone, and of the disk is left what
// the fate says.
func (m *machine) cut(f fate) {
	old := m.platter
	m.place()
	old.cut(f, m.r, m.dir)
	m.platter = nil

	m.boots++
	m.run++
	m.here, m.calm, m.firm = nil, false, map[string]bool{}
}

func frameLen(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n < 8 || n > 1000 {
		return 0, errors.New("no frame")
	}
	return 4 + int(n), nil
}

func (m *machine) frame() []byte {
	m.seq++
	body := binary.BigEndian.AppendUint32(nil, uint32(m.seq))
	for range m.r.IntN(40) {
		body = append(body, byte(m.r.IntN(256)))
	}
	body = binary.BigEndian.AppendUint32(body, crc32.ChecksumIEEE(body))
	f := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	m.wrote[string(f)] = true
	m.here = append(m.here, string(f))
	return f
}

func good(b []byte) int {
	n, err := frameLen(b)
	if err != nil || n == 0 || n > len(b) || crc32.ChecksumIEEE(b[4:n-4]) != binary.BigEndian.Uint32(b[n-4:]) {
		return 0
	}
	return n
}

// frames reads a whole stream as shipping would: runs of bytes of one session,
// frame by frame, looking for the next good one where there is none. damaged is
// how many bytes belong to none.
func (m *machine) frames(st *Stream) (at map[uint64]string, damaged int) {
	at = map[uint64]string{}
	rd := st.NewReader()
	defer rd.Close()
	var run []byte
	var begin, next uint64
	var session uint32
	end := func() {
		for i := 0; i < len(run); {
			if n := good(run[i:]); n > 0 {
				at[begin+uint64(i)] = string(run[i : i+n])
				i += n
				continue
			}
			damaged++
			i++
		}
		run = run[:0]
	}
	buf := make([]byte, 50)
	for {
		span, err := rd.Read(buf, next)
		if errors.Is(err, io.EOF) {
			end()
			return at, damaged
		}
		if err != nil {
			m.t.Fatal(err)
		}
		if span.From != next || span.Session != session {
			end()
			begin, session = span.From, span.Session
		}
		run = append(run, buf[:span.Len]...)
		next = span.From + uint64(span.Len)
	}
}

// look checks what must hold at every moment, and takes note of what is seen.
func (m *machine) look() {
	m.t.Helper()
	found := map[string]bool{}
	for _, st := range m.spool.Streams() {
		at, _ := m.frames(st)
		for offset, f := range at {
			id := fmt.Sprintf("%s-%016x", st.ID(), offset)
			found[id] = true
			if !m.wrote[f] {
				m.t.Fatalf("record %s was never written: % x", id, f)
			}
			if was, ok := m.ids[id]; ok && was != f {
				m.t.Fatalf("id %s stands for two records", id)
			}
			if was, ok := m.where[f]; ok && was != id {
				m.t.Fatalf("one record has ids %s and %s", was, id)
			}
			m.ids[id], m.where[f] = f, id
			switch end := offset + uint64(len(f)); {
			case !st.HasRoute("a"):
			case st.Unacknowledged("a", offset).From >= end && !m.acked[id]:
				m.t.Fatalf("record %s counts as acknowledged and is not", id)
			case st.Unacknowledged("a", offset).From < end && m.firm[id]:
				m.t.Fatalf("record %s does not count as acknowledged any more", id)
			}
		}
	}
	for id := range m.found {
		if m.calm && !found[id] {
			m.t.Fatalf("record %s was spooled and is lost without a power cut", id)
		}
	}
	m.found, m.calm = found, true
	for id := range m.safe {
		if !found[id] {
			m.t.Fatalf("record %s was synced and is lost", id)
		}
	}
}

// A deed is a step that a process kill makes repeat and a power cut ends.
type deed func(m *machine) error

func (m *machine) session() *Session {
	if st := m.spool.Of(owner); st != nil {
		for _, se := range st.Sessions() {
			if se.fifo == fifoName(m.run) {
				return se
			}
		}
	}
	return nil
}

func start(m *machine) error {
	if _, ok := m.pipe[m.run]; !ok {
		r, w := pipe(m.t)
		m.pipe[m.run] = [2]int{r, w}
	}
	_, _, err := m.spool.Attach(Params{Container: owner, KeepBytes: 1 << 30, Routes: []string{"a"}}, fifoName(m.run))
	return err
}

// put writes into the pipe, once.
func put(m *machine) error {
	for range 1 + m.r.IntN(3) {
		write(m.t, m.pipe[m.run][1], m.frame())
	}
	return nil
}

func takeIn(m *machine) error {
	se := m.session()
	if se == nil {
		return errors.New("the session is lost")
	}
	for {
		n, err := se.Splice(m.pipe[m.run][0], 1<<20)
		if errors.Is(err, unix.EAGAIN) || n == 0 && err == nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// acknowledge says so of all records, or of some, as where several collectors
// have them.
func acknowledge(some bool) deed {
	return func(m *machine) error {
		st := m.spool.Of(owner)
		at, _ := m.frames(st)
		var ranges []Range
		var ids []string
		for offset, f := range at {
			if some && m.r.IntN(2) == 0 {
				continue
			}
			id := fmt.Sprintf("%s-%016x", st.ID(), offset)
			m.acked[id], ids = true, append(ids, id)
			ranges = append(ranges, Range{offset, offset + uint64(len(f))})
		}
		var err error
		if some {
			err = st.AckRanges("a", ranges...)
		} else {
			err = st.Ack("a", st.End())
		}
		for _, id := range ids {
			m.firm[id] = m.firm[id] || err == nil
		}
		return err
	}
}

func syncAll(m *machine) error {
	if err := m.spool.Of(owner).Sync(); err != nil {
		return err
	}

	for id := range m.found {
		m.safe[id] = true
	}
	return nil
}

func end(m *machine) error {
	if se := m.session(); se != nil {
		if err := se.Detach(); err != nil {
			return err
		}
	}
	m.look()
	for _, f := range m.here {
		if !m.found[m.where[f]] {
			m.t.Fatalf("record % x was written in run %d and is not spooled", f, m.run)
		}
	}
	return nil
}

// oldRuns ends what was attached before a power cut.
func oldRuns(m *machine) error {
	for _, st := range m.spool.Streams() {
		for _, se := range st.Sessions() {
			if se.fifo == fifoName(m.run) {
				continue
			}
			if err := se.Detach(); err != nil {
				return err
			}
		}
	}
	return nil
}

var oneRun = []deed{
	start, put, takeIn, put, takeIn, acknowledge(true), put, put, takeIn, acknowledge(true), syncAll,
	put, takeIn, acknowledge(false), put, takeIn, acknowledge(true), end,
}

// death is the end of a process after so many changes to the disk, by a power
// cut with that fate, or by a kill where it has none.
type death struct {
	after int
	fate  *fate
}

// do carries out deeds. It returns false if the power was cut before they were
// done; the deaths that are left say how lives end.
func (m *machine) do(deeds []deed, deaths *[]death) bool {
	for _, d := range deeds {
		for {
			err := d(m)
			if err == nil && !m.life.killed {
				m.look()
				break
			}
			if !m.life.killed {
				m.t.Fatal(err)
			}
			if m.die(deaths) {
				return false
			}
			m.look()
			if err == nil {
				break // done all the same
			}
		}
	}
	return true
}

// die ends lives until one has opened the spool. It reports whether the power
// was cut.
func (m *machine) die(deaths *[]death) (cut bool) {
	for m.spool = nil; m.spool == nil; {
		if f := (*deaths)[0].fate; f != nil {
			m.cut(*f)
			cut = true
		}
		*deaths = (*deaths)[1:]
		m.boot((*deaths)[0].after)
	}
	return cut
}

// live is three runs of a container, in lives that end with these deaths. It
// returns how many changes the last life made.
func live(t *testing.T, seed uint64, deaths ...death) (changes int) {
	m := newMachine(t, seed)
	deaths = append(deaths, death{after: 1 << 30})
	if m.boot(deaths[0].after); m.spool == nil {
		m.die(&deaths)
	}
	for range 3 {
		if m.do(append([]deed{oldRuns}, oneRun...), &deaths) {
			m.run++
			m.here = nil
		}
		m.look()
	}
	changes = deaths[0].after - m.life.left
	m.boot(1 << 30)
	m.look()
	return changes
}

// TestPowerCutAtEveryChange cuts the power at each change that the spool makes
// to the disk, and again soon after; and cuts it soon after the process was
// killed at that change. A kill loses nothing. A power cut loses nothing that
// was synced. No id ever stands for two records, no record is there twice,
// nothing counts as acknowledged that was not, and the spool can be opened and
// used whatever the disk has kept.
func TestPowerCutAtEveryChange(t *testing.T) {
	changes := live(t, 1)
	if changes < 100 {
		t.Fatalf("three runs make only %d changes", changes)
	}
	for i, f := range fates {
		t.Run(f.name, func(t *testing.T) {
			for at := range changes {
				for round := range max(1, *rounds) {
					seed := uint64(at + 1000*round)
					if *rounds > 0 || at%len(fates) == i {
						live(t, seed, death{at, &f}, death{1 + at%17, &f})
					}
					if *rounds > 0 || (at+3)%len(fates) == i {
						live(t, seed, death{at, nil}, death{1 + at%23, &f})
					}
				}
			}
		})
	}
}
