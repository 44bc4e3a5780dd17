package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Gap is a time of which the history is not complete: what was acknowledged in
// it may be with collectors that are not named.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Why  string    `json:"why"`
}

// Query asks for the records of a container that were written in a time, both
// ends included.
type Query struct {
	Container string    // its name, its id, or how that begins
	From, To  time.Time // zero for no bound
}

// Container is one that may be asked for, whether or not anything of it was
// acknowledged.
type Container struct {
	ID, Name string
	Created  time.Time
}

// Interval says that a collector holds records of a container.
type Interval struct {
	Pool      string    `json:"pool"`
	Collector string    `json:"collector"`
	From      time.Time `json:"from"` // time of the earliest of these records
	To        time.Time `json:"to"`   // and of the latest
	Records   uint64    `json:"records"`
	Bytes     uint64    `json:"bytes"`              // of lines
	AtLeast   bool      `json:"at_least,omitempty"` // there are more records: a crash took the count of some
	Exact     bool      `json:"exact"`              // no other collector of the pool holds any of that time
}

// Holding is what is known of one container's records.
type Holding struct {
	Container  string     `json:"container"`
	Name       string     `json:"name"`
	Collectors []string   `json:"collectors"` // the names of all that hold some, sorted
	Intervals  []Interval `json:"intervals"`  // by pool and time
	Gaps       []Gap      `json:"gaps,omitempty"`
	KnownSince time.Time  `json:"known_since"` // what was acknowledged before may be with others
	Complete   bool       `json:"complete"`    // nothing is unknown: no other collector holds any of what was asked for
	Exact      bool       `json:"exact"`       // it is complete, and all intervals are exact
}

// NotFoundError means that no container is the one that was asked for.
type NotFoundError struct {
	Container string
	Since     time.Time
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no container %q has logged through dockline-log on this host, as far as is known, which is since %s", e.Container, e.Since.Format(time.RFC3339))
}

// AmbiguousError means that several containers' ids begin with what was asked for.
type AmbiguousError struct {
	Container string
	IDs       []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("container ids that begin with %q: %s; give more digits", e.Container, strings.Join(e.IDs, ", "))
}

// Where says which collectors hold the records that a query asks for: for each
// container that the query names, for several may have had a name one after the
// other. Others are containers that there are besides those it knows. The error
// is a *NotFoundError or an *AmbiguousError.
func (h *History) Where(q Query, others ...Container) ([]Holding, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := map[string]Container{}
	for _, c := range others {
		known[c.ID] = c
	}
	heard := map[string]int64{}
	for _, st := range h.streams {
		if _, ok := known[st.owner]; !ok || heard[st.owner] != 0 && heard[st.owner] < st.seen {
			known[st.owner] = Container{ID: st.owner, Name: st.name, Created: moment(st.created)}
			heard[st.owner] = st.seen
		}
	}
	found, err := h.findLocked(q.Container, known)
	if err != nil {
		return nil, err
	}
	all := make([]Holding, 0, len(found))
	for _, c := range found {
		all = append(all, h.holdingLocked(c, q))
	}
	return all, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (h *History) findLocked(name string, known map[string]Container) ([]Container, error) {
	if c, ok := known[name]; ok {
		return []Container{c}, nil
	}
	var named, begin []Container
	for _, c := range known {
		if c.Name == strings.TrimPrefix(name, "/") {
			named = append(named, c)
		}
		if strings.HasPrefix(c.ID, strings.ToLower(name)) {
			begin = append(begin, c)
		}
	}
	switch {
	case name == "" || len(named) == 0 && len(begin) == 0:
		since := moment(h.since)
		for _, g := range h.gaps {
			since = later(since, g.To)
		}
		return nil, &NotFoundError{name, since}
	case len(named) > 0:
		slices.SortFunc(named, func(a, b Container) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) })
		return named, nil
	case len(begin) > 1:
		e := &AmbiguousError{Container: name}
		for _, c := range begin {
			e.IDs = append(e.IDs, c.ID[:min(len(c.ID), max(12, len(name)+4))])
		}
		slices.Sort(e.IDs)
		return nil, e
	}
	return begin, nil
}

// holdingLocked puts together what is known of a container's records.
func (h *History) holdingLocked(c Container, q Query) Holding {
	a := Holding{Container: c.ID, Name: c.Name, Collectors: []string{}, Intervals: []Interval{}, Exact: true}
	from, to := nano(q.From), nano(q.To)
	var since int64
	heard := false
	for _, st := range h.streams {
		if st.owner != c.ID {
			continue
		}
		heard = true
		since = max(since, st.since)
		for _, sp := range st.spans {
			if (to == 0 || sp.from <= to) && sp.last >= from {
				a.Intervals = append(a.Intervals, h.intervalLocked(sp, from, to))
			}
		}
	}
	if !heard {
		since = h.since
	}
	a.KnownSince = moment(since)
	begin := max(from, nano(c.Created)) // nothing of it is older
	for _, g := range h.gaps {
		if nano(g.To) >= begin {
			a.Gaps = append(a.Gaps, g)
		}
	}
	for _, i := range a.Intervals {
		a.Collectors = append(a.Collectors, i.Collector)
		a.Exact = a.Exact && i.Exact
	}
	slices.Sort(a.Collectors)
	a.Collectors = slices.Compact(a.Collectors)
	slices.SortFunc(a.Intervals, func(x, y Interval) int {
		return cmp.Or(strings.Compare(x.Pool, y.Pool), x.From.Compare(y.From), x.To.Compare(y.To), strings.Compare(x.Collector, y.Collector))
	})
	a.Complete = begin >= since && len(a.Gaps) == 0
	a.Exact = a.Exact && a.Complete
	return a
}

func (h *History) intervalLocked(sp *span, from, to int64) Interval {
	i := Interval{
		Pool: sp.pair.pool, Collector: sp.pair.name, From: moment(sp.from), To: moment(sp.last),
		Records: sp.records, Bytes: sp.bytes, AtLeast: sp.uncounted, Exact: true,
	}
	if now := h.now(); sp.uncounted && sp.last > now { // its end is a bound, not a record's time
		i.To = moment(max(now, sp.from))
	}
	begin, end := max(sp.from, from), sp.last
	if to != 0 {
		end = min(end, to)
	}
	for _, o := range sp.stream.spans {
		if o.pair.pool == sp.pair.pool && o.pair != sp.pair && o.from <= end && o.last >= begin {
			i.Exact = false
		}
	}
	return i
}
