package witness

import (
	"fmt"
	"time"
)

// Run is one run of a container that is over.
type Run struct {
	Lines  uint64 // that it wrote, where that is known
	Killed bool   // so nobody knows
	Ended  time.Time
}

// Verdict is what became of a container's records.
type Verdict struct {
	Wrote, Lost           uint64
	Engine                uint64 // lines that were in the memory of an engine when it died
	Duplicated, Reordered uint64
	Problems              []string
}

// Judge compares what a container wrote in all its runs with what came of it.
// strict means that nothing of the stream's bytes may be missing.
func (b *Book) Judge(container string, runs []Run, s *Spool, strict bool) Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[container]
	if a == nil {
		return Verdict{Problems: []string{container + ": nothing has come"}}
	}
	g := gaps{name: container, runs: runs, deaths: s.ends[a.stream], jumps: s.jumps[a.stream], strict: strict}
	g.walk(a.distinct())
	v := Verdict{Lost: g.lost, Engine: g.engine, Problems: g.problems}
	v.Duplicated, v.Reordered = a.order()
	for _, r := range runs {
		v.Wrote += r.Lines
	}
	if v.Reordered > 0 {
		v.Problems = append(v.Problems, fmt.Sprintf("%s: %d records came after later ones", container, v.Reordered))
	}
	return v
}

// gaps finds what is missing among the records of one container.
type gaps struct {
	name   string
	runs   []Run
	deaths map[uint64]bool   // offsets at which an engine died
	jumps  map[uint64]uint64 // offsets that no byte has, from and to
	strict bool              // nothing of the stream's bytes may be missing

	run      int    // of the next line
	next     uint64 // its number
	at       uint64 // where its frame should begin
	hole     bool   // bytes of the stream are missing before it
	excused  bool   // an engine died before it
	lost     uint64
	engine   uint64
	problems []string
}

// walk takes the different records in the order of the stream.
func (g *gaps) walk(all []delivery) {
	for _, d := range all {
		g.move(d)
		if d.seq >= 0 {
			g.line(d)
		} else if !g.excused {
			g.problem("a torn line at %d, where no engine died", d.offset)
		}
	}
	if g.deaths[g.at] {
		g.excused = true
	}
	g.skip(len(g.runs)-1, g.lines(len(g.runs)-1))
}

// move takes the place of a record in the stream.
func (g *gaps) move(d delivery) {
	g.jump(d.offset)
	if d.offset != g.at {
		g.hole = true
		if g.strict || d.offset < g.at {
			g.problem("the stream's bytes from %d to %d have not come", g.at, d.offset)
		}
	}
	for at := range g.deaths {
		if at >= g.at && at <= d.offset {
			g.excused = true
		}
	}
	g.at = d.offset + d.length
}

// jump leaves out what has no offset before the next record. A power cut may
// have torn the frame before.
func (g *gaps) jump(next uint64) {
	const longest = 4096 // frame of the workloads
	for from, to := range g.jumps {
		torn := g.deaths[from] && from > g.at && from-g.at < longest
		if to > next || from != g.at && !torn {
			continue
		}
		g.excused = g.excused || g.deaths[from]
		g.at = to
		g.jump(next)
		return
	}
}

// line takes a whole line.
func (g *gaps) line(d delivery) {
	run := g.run
	for run < len(g.runs)-1 && d.wrote > g.runs[run].Ended.UnixNano() {
		run++
	}
	if run == g.run && uint64(d.seq) < g.next {
		g.problem("line %d of run %d is in the stream again, at %d", d.seq, run, d.offset)
		return
	}
	g.skip(run, uint64(d.seq))
	g.next++
	g.hole, g.excused = false, false
}

// skip counts what is missing before a line, and makes it the next one.
func (g *gaps) skip(run int, seq uint64) {
	var missing uint64
	for ; g.run < run; g.run, g.next = g.run+1, 0 {
		missing += g.lines(g.run) - min(g.next, g.lines(g.run))
	}
	if seq > g.next {
		missing += seq - g.next
	}
	g.next = seq
	switch {
	case missing == 0:
	case g.excused && !g.hole:
		g.engine += missing
	default:
		g.lost += missing
		if g.strict {
			g.problem("%d lines before line %d of run %d are missing, at %d", missing, seq, run, g.at)
		}
	}
}

// lines is how many lines a run wrote: of one that was killed, what has come.
// What it wrote and what reached the engine differ by what lay in its pipe.
func (g *gaps) lines(run int) uint64 {
	if r := g.runs[run]; !r.Killed {
		return r.Lines
	}
	if run == g.run {
		return g.next
	}
	return 0
}

func (g *gaps) problem(format string, args ...any) {
	g.problems = append(g.problems, g.name+": "+fmt.Sprintf(format, args...))
}
