package witness

import (
	"testing"
	"time"
)

// stream makes records of the given lines that follow each other; -1 is a torn
// line, -2 one whose bytes have not come.
func stream(lines ...int64) (all []delivery) {
	for i, n := range lines {
		if n != -2 {
			all = append(all, delivery{offset: uint64(i) * 10, length: 10, seq: n, wrote: 1})
		}
	}
	return all
}

func TestGaps(t *testing.T) {
	for name, c := range map[string]struct {
		lines        []int64
		deaths       []uint64
		lost, engine uint64
		problem      bool
	}{
		"nothing missing":                     {lines: []int64{0, 1, 2, 3, 4}},
		"delivered too little":                {lines: []int64{0, 1, -2, 3, 4}, lost: 1, problem: true},
		"never in the spool":                  {lines: []int64{0, 1, 4}, lost: 2, problem: true},
		"never in the spool, elsewhere":       {lines: []int64{0, 1, 4}, deaths: []uint64{10}, lost: 2, problem: true},
		"gone with the engine":                {lines: []int64{0, 1, 4}, deaths: []uint64{20}, engine: 2},
		"torn by the engine's end":            {lines: []int64{0, -1, 4}, deaths: []uint64{10}, engine: 3},
		"torn by nothing":                     {lines: []int64{0, -1, 1, 2, 3, 4}, problem: true},
		"the end is missing":                  {lines: []int64{0, 1, 2}, lost: 2, problem: true},
		"the end went with the engine":        {lines: []int64{0, 1, 2}, deaths: []uint64{30}, engine: 2},
		"in the stream twice":                 {lines: []int64{0, 1, 1, 2, 3, 4}, problem: true},
		"engine died and more did not arrive": {lines: []int64{0, -2, 3, 4}, deaths: []uint64{20}, lost: 2, problem: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := gaps{name: "w", runs: []Run{{Lines: 5, Ended: time.Unix(1, 0)}}, deaths: map[uint64]bool{}, strict: true}
			for _, d := range c.deaths {
				g.deaths[d] = true
			}
			all := stream(c.lines...)
			g.walk(all)
			if g.lost != c.lost || g.engine != c.engine || (len(g.problems) > 0) != c.problem {
				t.Errorf("lost %d, with the engine %d, problems %q", g.lost, g.engine, g.problems)
			}
		})
	}
}

func TestGapsAcrossRuns(t *testing.T) {
	g := gaps{name: "w", runs: []Run{{Lines: 3, Ended: time.Unix(1, 0)}, {Lines: 2, Ended: time.Unix(3, 0)}}, strict: true}
	all := stream(0, 1, 2, 0, 1)
	for i := range all {
		all[i].wrote = int64(i/3)*2e9 + 1
	}
	if g.walk(all); g.lost != 0 || len(g.problems) > 0 {
		t.Errorf("lost %d, problems %q", g.lost, g.problems)
	}
	g = gaps{name: "w", runs: g.runs, strict: true}
	if g.walk(append(all[:2:2], all[3:]...)); g.lost != 1 {
		t.Errorf("lost %d, not the last line of the first run", g.lost)
	}
}

// Of a run that was killed nobody knows the last line; what is missing before
// its last one is missing all the same, and offsets that were jumped over are not.
func TestGapsOfKilledRuns(t *testing.T) {
	for name, c := range map[string]struct {
		lines []int64
		lost  uint64
	}{
		"whole":              {lines: []int64{0, 1, 2, 0, 1}},
		"less came than was": {lines: []int64{0, 0, 1}},
		"missing within":     {lines: []int64{0, 2, 0, 1}, lost: 1},
		"missing after":      {lines: []int64{0, 1, 1}, lost: 1},
		"nothing came":       {lines: []int64{}, lost: 2},
	} {
		t.Run(name, func(t *testing.T) {
			const jump = 1 << 40
			g := gaps{name: "w", runs: []Run{{Killed: true, Ended: time.Unix(1, 0)}, {Lines: 2, Ended: time.Unix(9, 0)}}, strict: true}
			all, second := stream(c.lines...), false
			for i := range all {
				second = second || i > 0 && all[i].seq <= all[i-1].seq
				if second {
					if g.jumps == nil {
						g.jumps = map[uint64]uint64{all[i].offset: all[i].offset + jump}
					}
					all[i].offset, all[i].wrote = all[i].offset+jump, 2e9
				}
			}
			if g.walk(all); g.lost != c.lost || len(g.problems) != int(min(c.lost, 1)) {
				t.Errorf("lost %d, problems %q", g.lost, g.problems)
			}
		})
	}
}
