package main

import "fmt"

// gaps finds what is missing among the records of one container.
type gaps struct {
	name   string
	runs   []written
	deaths map[uint64]bool // offsets at which an engine died
	strict bool            // nothing of the stream's bytes may be missing

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

// line takes a whole line.
func (g *gaps) line(d delivery) {
	run := g.run
	for run < len(g.runs)-1 && d.wrote > g.runs[run].ended.UnixNano() {
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

// lines is how many lines a run wrote.
func (g *gaps) lines(run int) uint64 { return g.runs[run].lines }

func (g *gaps) problem(format string, args ...any) {
	g.problems = append(g.problems, g.name+": "+fmt.Sprintf(format, args...))
}
