package sinktest

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dockline/dockline/logdriver/ship"
)

// fails has the collector answer with a status to what has one of some records.
func (w *Web) fails(status string, when func(records []Got) bool) {
	w.set(func() {
		w.answer = func(_ *http.Request, records []Got) (string, []byte) {
			if when(records) {
				return status, []byte("because")
			}
			return "", nil
		}
	})
}

func anyOf(ids ...string) func([]Got) bool {
	return func(records []Got) bool { return bad(records, ids...) >= 0 }
}

// again sends batches on one connection after the other, each time those that are
// not acknowledged, as ship does, and returns what was refused. Without success it
// gives up after so many tries, and returns the last error.
func again(t *testing.T, s ship.Sink, tries, batches int, fill func(conn ship.Conn, i int) []byte) (got []ship.Refusal, err error) {
	t.Helper()
	first := 0
	for range tries {
		conn := Connect(t, s)
		var sending sync.WaitGroup
		sending.Go(func() {
			for i := first; i < batches; i++ {
				if conn.Send(t.Context(), fill(conn, i)) != nil {
					return
				}
			}
		})
		var acked uint64
		acked, err = Wait(t, conn, uint64(batches-first)) //nolint:gosec // not negative
		got = append(got, refusals(conn)...)
		_ = conn.Close()
		sending.Wait()
		if first += int(acked); first == batches { //nolint:gosec // as many
			return got, nil
		}
	}
	return got, err
}

// webFailing: a record at which the collector fails for ever is found and put aside,
// and all others are delivered.
func webFailing(t *testing.T, h HTTP) {
	const batches, records = 3, 40
	for _, tc := range []struct {
		name, status string
		poison       []string
		held         string // why nothing is put aside, if it is not
	}{
		{name: "one", status: "502 Bad Gateway", poison: []string{id(57)}},
		{name: "the first and the last", status: "502 Bad Gateway", poison: []string{id(0), id(119)}},
		{name: "several in several batches", status: "502 Bad Gateway", poison: []string{id(3), id(4), id(5), id(41), id(60), id(101)}},
		{name: "too many", status: "502 Bad Gateway", poison: allIDs(0, 20), held: "because"},
		{name: "busy", status: "503 Service Unavailable", poison: []string{id(57)}, held: "because"},
	} {
		w, addr, _ := h.serve(t)
		w.fails(tc.status, anyOf(tc.poison...))
		s := h.protocol().sink(t, addr, "isolate-after=5ms")
		tmpl := s.Prepare(Meta())
		got, err := again(t, s, 30, batches, func(conn ship.Conn, i int) []byte { return batch(conn, tmpl, i*records, records, 20) })
		if tc.held != "" {
			if err == nil || !strings.Contains(err.Error(), tc.held) || len(got) > 0 {
				t.Errorf("%s: %v, %d are put aside", tc.name, err, len(got))
			}
			continue
		}
		var ids []string
		for _, r := range got {
			ids = append(ids, r.ID)
			if r.Records != 1 || r.Class != "failing" || !strings.Contains(r.Reason, "because") || r.Container != "web-1" {
				t.Errorf("%s: %+v", tc.name, r)
			}
		}
		slices.Sort(ids)
		if err != nil || !slices.Equal(ids, tc.poison) || w.count() != batches*records-len(ids) {
			t.Errorf("%s: %v; %q are put aside, and %d kept", tc.name, err, ids, w.count())
		}
	}
}

func allIDs(first, n int) (all []string) {
	for i := range n {
		all = append(all, id(first+i))
	}
	return all
}

// webOutage: a collector that fails at all that it is sent, or at all of one
// container, is out of order: nothing is put aside, it is not asked much more often,
// and when it is well again it gets everything.
func webOutage(t *testing.T, h HTTP) {
	for _, tc := range []struct {
		name  string
		fails func([]Got) bool
	}{
		{"all", func([]Got) bool { return true }},
		{"one container", func(records []Got) bool {
			return slices.ContainsFunc(records, func(g Got) bool { return strings.HasPrefix(g.ID, "s1-") })
		}},
	} {
		w, addr, _ := h.serve(t)
		w.fails("502 Bad Gateway", tc.fails)
		s := h.protocol().sink(t, addr, "isolate-after=5ms")
		other := *Meta()
		other.Stream, other.ContainerName = "s2", "web-2"
		one, two := s.Prepare(Meta()), s.Prepare(&other)
		fill := func(conn ship.Conn, _ int) []byte {
			dst := batch(conn, one, 0, 50, 20)
			for i := range 50 {
				dst = conn.Append(dst, two, &ship.Record{Offset: uint64(i), Line: []byte(line(i, 20))}) //nolint:gosec // small
			}
			return dst
		}
		const tries = 15
		if got, err := again(t, s, tries, 1, fill); err == nil || len(got) > 0 {
			t.Errorf("%s: %v, %d are put aside", tc.name, err, len(got))
		}
		if w.asked() > tries*40 {
			t.Errorf("%s: %d requests in %d tries", tc.name, w.asked(), tries)
		}
		w.set(func() { w.answer = nil })
		if got, err := again(t, s, 1, 1, fill); err != nil || len(got) > 0 || w.count() != 100 {
			t.Errorf("%s: then %v, %d are put aside, %d kept", tc.name, err, len(got), w.count())
		}
	}
}
