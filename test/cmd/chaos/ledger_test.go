package main

import (
	"fmt"
	"testing"

	"github.com/dockline/dockline/test/harness/collector"
)

func TestLedger(t *testing.T) {
	type come struct{ n, at int }
	for name, c := range map[string]struct {
		came                                   []come
		lost, duplicated, reordered, elsewhere uint64
	}{
		"all is well":            {[]come{{0, 0}, {1, 0}, {2, 1}}, 0, 0, 0, 0},
		"lost":                   {[]come{{0, 0}, {2, 0}}, 1, 0, 0, 0},
		"twice":                  {[]come{{0, 0}, {1, 0}, {1, 1}, {2, 1}}, 0, 1, 0, 0},
		"behind at the same":     {[]come{{1, 0}, {0, 0}, {2, 0}}, 0, 0, 1, 0},
		"behind somewhere else":  {[]come{{1, 0}, {0, 1}, {2, 0}}, 0, 0, 1, 1},
		"behind, and then again": {[]come{{2, 0}, {0, 0}, {1, 1}, {1, 0}}, 0, 1, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			for _, r := range c.came {
				l.record(collector.Record{Container: "c", Line: fmt.Appendf(nil, "seq=%d of=3 src=stdout ts=%d xx", r.n, 100+r.n)}, r.at)
			}
			f := l.flows[flowKey{"c", false}]
			lost, _ := f.missing(3)
			if lost != c.lost || f.duplicated != c.duplicated || f.reordered != c.reordered || f.reordered-f.locally != c.elsewhere {
				t.Errorf("lost %d, duplicated %d, reordered %d, at the same %d", lost, f.duplicated, f.reordered, f.locally)
			}
		})
	}
}

func TestLedgerKnowsWhoHoldsWhatAlone(t *testing.T) {
	l := newLedger()
	for _, r := range [][2]int{{0, 0}, {1, 0}, {1, 1}, {2, 1}, {0, auditor}} {
		l.record(collector.Record{Container: "c", Line: fmt.Appendf(nil, "seq=%d of=3 src=stdout ts=%d xx", r[0], 100+r[0])}, r[1])
	}
	alone := l.flows[flowKey{"c", false}].alone()
	if len(alone[0]) != 1 || alone[0][0] != 100 || len(alone[1]) != 1 || alone[1][0] != 102 {
		t.Errorf("alone are %v", alone)
	}
	l.record(collector.Record{Container: "c", Line: []byte("[dockline] 3 records dropped")}, 0)
	if len(l.problems) != 1 {
		t.Errorf("problems are %v", l.problems)
	}
}
