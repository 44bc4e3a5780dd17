package sinktest

import (
	"net/http"
	"testing"

	"github.com/dockline/dockline/logdriver/ship"
)

// refusing are the statuses by which a collector refuses what is in a request.
func (h HTTP) refusing() []string {
	if h.Final500 {
		return []string{"400 Bad Request", "500 Internal Server Error"}
	}
	return []string{"400 Bad Request"}
}

// webRefusesSuddenly: a collector, or what is before it, that begins to refuse
// everything in the middle of a batch is out of order: nothing is put aside, and it
// is not asked for each record. When it is well again it gets all.
func webRefusesSuddenly(t *testing.T, h HTTP) {
	const records, poison = 2000, 57
	for _, status := range h.refusing() {
		w, addr, _ := h.serve(t)
		s := h.protocol().sink(t, addr)
		tmpl := s.Prepare(Meta())
		fill := func(conn ship.Conn, _ int) []byte { return batch(conn, tmpl, 0, records, 20) }
		w.set(func() {
			w.answer = func(_ *http.Request, records []Got) (string, []byte) {
				if bad(records, id(poison)) < 0 && len(w.kept) == 0 {
					return "", nil // the last thing that it takes
				}
				return status, []byte("because")
			}
		})
		if got, err := again(t, s, 1, 1, fill); err == nil || len(got) > 0 {
			t.Errorf("%s: %v, %d are put aside", status, err, len(got))
		}
		if w.asked() > 100 {
			t.Errorf("%s: %d requests", status, w.asked())
		}
		w.set(func() { w.answer = nil })
		if got, err := again(t, s, 1, 1, fill); err != nil || len(got) > 0 {
			t.Errorf("%s: then %v, %d are put aside", status, err, len(got))
		}
		w.exactly(records, 20)
	}
}

// webFew: after an outage that answers 500 to the few records there are, nothing is
// missing, however often they were tried.
func webFew(t *testing.T, h HTTP) {
	if !h.Final500 {
		return
	}
	w, addr, _ := h.serve(t)
	s := h.protocol().sink(t, addr)
	tmpl := s.Prepare(Meta())
	if _, err := sendAnew(t, s, tmpl, 0, 1, 20); err != nil {
		t.Fatal(err)
	}
	w.fails("500 Internal Server Error", func([]Got) bool { return true })
	fill := func(conn ship.Conn, i int) []byte { return batch(conn, tmpl, 2+2*i, 2, 20) }
	if got, err := again(t, s, 10, 4, fill); err == nil || len(got) > 0 {
		t.Errorf("%v, %d are put aside", err, len(got))
	}
	w.set(func() { w.answer = nil })
	if got, err := again(t, s, 1, 4, fill); err != nil || len(got) > 0 {
		t.Errorf("then %v, %d are put aside", err, len(got))
	}
	w.exactly(10, 20)
}

// webOnlyPoison: records that a collector refuses for ever do not hold up those
// behind them, however many there are with nothing else between, as long as it takes
// what it took before.
func webOnlyPoison(t *testing.T, h HTTP) {
	const poison = 40
	for _, status := range h.refusing() {
		w, addr, _ := h.serve(t)
		s := h.protocol().sink(t, addr)
		tmpl := s.Prepare(Meta())
		if _, err := sendAnew(t, s, tmpl, poison, 1, 20); err != nil {
			t.Fatal(err)
		}
		w.fails(status, anyOf(allIDs(0, poison)...))
		got, err := again(t, s, 1, 4, func(conn ship.Conn, i int) []byte { return batch(conn, tmpl, i*poison/4, poison/4, 20) })
		if err != nil || len(got) != poison || w.count() != 2 {
			t.Errorf("%s: %v, %d are put aside", status, err, len(got))
		}
		got, err = again(t, s, 1, 1, func(conn ship.Conn, _ int) []byte { return batch(conn, tmpl, 0, poison, 20) })
		if err != nil || len(got) != poison {
			t.Errorf("%s: in one batch %v, %d are put aside", status, err, len(got))
		}
	}
}
