package ship

import "sync"

const (
	// sortWindow is how much of a stream is sorted at a time, and sortedUnits the
	// most units that it can consist of: no frame of an engine takes less than 20 bytes.
	sortWindow  = 16 << 10
	sortedUnits = sortWindow/20 + 2
	// maxUnits and maxHeld are up to where another window may be sorted. Were
	// every other unit acknowledged, there would still be no more than MaxRanges.
	maxUnits = 2*MaxRanges - sortedUnits
	maxHeld  = 4 << 20
)

// units says what is acknowledged of a feed whose records go to several
// collectors. A unit is a run of bytes of the stream with all frames of all its
// records: it is acknowledged as a whole, and reading can begin again behind it.
// Mostly it is the records in a row that go to one collector. Where long lines
// lie across each other, it is all of them.
type units struct {
	mu        sync.Mutex // guards what follows
	all       []unit     // in order, without gaps between them; only the last may be open
	first     uint64     // number of all[0]
	next      uint64     // where the next unit begins
	held      int        // bytes of records that are under way
	dirty     bool       // something was acknowledged since the last flush
	templates map[*lane]*encoder
	prepared  *Meta // what templates were made of
}

type unit struct {
	from, to uint64
	frames   uint64 // where the last frame of its records ends, as far as is known
	pending  int    // records that are not acknowledged
	dest     *lane  // where all of its records go; nil where they go to several
	open     bool   // more records may become part of it
}

func newUnits(at uint64) *units { return &units{next: at} }

// waiting reports whether something is not acknowledged, or not noted to be.
func (u *units) waiting() bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.all) > 0
}

// room reports whether more may be read.
func (u *units) room() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.all) <= maxUnits && u.held < maxHeld
}

// add counts a record that goes to a lane, and returns the number of its unit.
// All records whose frames end at or before safe have been added; the record's
// own end at or before frames.
func (u *units) add(to *lane, safe, frames uint64) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := len(u.all) - 1
	if last >= 0 && u.all[last].open && u.all[last].dest != to && safe >= u.all[last].frames {
		u.closeLocked(safe)
	}
	if last < 0 || !u.all[last].open {
		u.all = append(u.all, unit{from: u.next, frames: u.next, dest: to, open: true})
		last = len(u.all) - 1
	}
	c := &u.all[last]
	if c.dest != to {
		c.dest = nil
	}
	c.frames = max(c.frames, frames)
	c.pending++
	return u.first + uint64(last)
}

func (u *units) closeLocked(at uint64) {
	c := &u.all[len(u.all)-1]
	c.to, c.open, u.next = at, false, at
}

// cut ends a unit at safe, up to where everything has been read, if all of its
// records end there. Bytes without a record are a unit too.
func (u *units) cut(safe uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := len(u.all) - 1
	switch {
	case last >= 0 && u.all[last].open:
		if safe >= u.all[last].frames {
			u.closeLocked(safe)
			u.dirty = u.dirty || u.all[last].pending == 0
		}
	case safe > u.next:
		u.all = append(u.all, unit{from: u.next, to: safe})
		u.next, u.dirty = safe, true
	}
}

// done counts the records of a parcel as acknowledged, and reports whether
// that makes a flush necessary which was not before.
func (u *units) done(p *parcel) (first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range p.records {
		u.all[p.records[i].unit-u.first].pending--
	}
	first = !u.dirty
	u.dirty = true
	return first
}

// weigh counts bytes of records that have come under way, or are not any more.
func (u *units) weigh(bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held += bytes
}

// flush returns what is acknowledged: first all up to an offset, then the ranges
// beyond it. It returns nothing where nothing is new.
func (u *units) flush(dst []Range) []Range {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.dirty {
		return dst
	}
	u.dirty = false
	n := 0
	for n < len(u.all) && u.all[n].done() {
		n++
	}
	at := u.next
	if n < len(u.all) {
		at = u.all[n].from
	}
	u.first += uint64(n)
	u.all = append(u.all[:0], u.all[n:]...)
	dst = append(dst, Range{0, at})
	before := false
	for i := range u.all {
		c := &u.all[i]
		done := c.done()
		if done && before {
			dst[len(dst)-1].To = c.to
		} else if done {
			dst = append(dst, Range{c.from, c.to})
		}
		before = done
	}
	return dst
}

func (c *unit) done() bool { return !c.open && c.pending == 0 }

// template returns what a lane encodes the feed's records with.
func (u *units) template(l *lane, m *Meta) *encoder {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.prepared != m || u.templates == nil {
		u.templates, u.prepared = map[*lane]*encoder{}, m
	}
	t := u.templates[l]
	if t == nil {
		t = l.prepare(m)
		u.templates[l] = t
	}
	return t
}

// forget lets go of templates, of which some belong to lanes that are no more.
func (u *units) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.templates = nil
}
