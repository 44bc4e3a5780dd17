package ship

import (
	"slices"
	"sync"
	"unsafe"
)

// parcel is records of one stream on their way to a collector, for a stream
// whose records go to several. It keeps them until they are acknowledged, so
// that they can go to another collector. It belongs to the sorter, then to the
// queue of a lane, then to the lane's goroutine.
type parcel struct {
	feed    *feed
	records []packed
	text    []byte
	fields  []span
	one     Record // for at
	lifted  []Field
}

// packed is a record whose line is text[from:to], and whose fields are
// fields[first:last].
type packed struct {
	record      Record
	from, to    int
	first, last int
	unit        uint64
}

// span is a field: its name is text[from:value], its value text[value:to].
type span struct {
	from, value, to int
	raw             bool
}

// What a record and a field take beside their text.
const (
	packedBytes = int(unsafe.Sizeof(packed{}))
	spanBytes   = int(unsafe.Sizeof(span{}))
)

var parcels = sync.Pool{New: func() any { return new(parcel) }}

func (p *parcel) add(r *Record, unit uint64) {
	from, first := len(p.text), len(p.fields)
	p.text = append(p.text, r.Line...)
	to := len(p.text)
	for i := range r.Fields {
		f := &r.Fields[i]
		at := len(p.text)
		p.text = append(append(p.text, f.Key...), f.Value...)
		p.fields = append(p.fields, span{at, at + len(f.Key), len(p.text), f.Raw})
	}
	p.records = append(p.records, packed{*r, from, to, first, len(p.fields), unit})
	kept := &p.records[len(p.records)-1].record
	kept.Line, kept.Fields = nil, nil
}

// at returns a record, which is its user's until at is called again.
func (p *parcel) at(i int) *Record {
	r := &p.records[i]
	p.one = r.record
	p.one.Line = p.text[r.from:r.to]
	p.lifted = p.lifted[:0]
	for _, f := range p.fields[r.first:r.last] {
		p.lifted = append(p.lifted, Field{Key: p.text[f.from:f.value], Value: p.text[f.value:f.to], Raw: f.raw})
	}
	p.one.Fields = p.lifted
	return &p.one
}

// weight is how many bytes it takes.
func (p *parcel) weight() int {
	return len(p.text) + packedBytes*len(p.records) + spanBytes*len(p.fields)
}

// maxReuse is what a parcel may have grown to and still be used again.
const maxReuse = 1 << 20

// unwanted reports whether nobody is to get it any more, unless it was sent already.
func (p *parcel) unwanted() bool { return p.feed.over.Load() || p.feed.closing.Load() }

func anyParcel(*parcel) bool { return true }

func (p *parcel) free() {
	p.feed.parcels.Add(-1)
	if cap(p.text) > maxReuse {
		return
	}
	*p = parcel{records: p.records[:0], text: p.text[:0], fields: p.fields[:0], lifted: p.lifted[:0]}
	parcels.Put(p)
}

// pushParcel adds a parcel to the queue, unless nobody works on the lane any more.
func (l *lane) pushParcel(p *parcel) bool {
	l.mu.Lock()
	over := l.over
	if !over {
		l.load.Add(1)
		l.parcels = append(l.parcels, p)
	}
	l.mu.Unlock()
	if !over {
		poke(l.wake)
	}
	return !over
}

func (l *lane) popParcel() *parcel {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.parcels) == 0 {
		return nil
	}
	p := l.parcels[0]
	l.parcels[0] = nil
	l.parcels = l.parcels[1:]
	return p
}

func (l *lane) hasParcels() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parcels) > 0
}

// takeBack puts the parcels that were under way at the head of the queue.
func (l *lane) takeBack() {
	var back []*parcel
	for _, b := range append(l.sent, l.batch) {
		for _, m := range b.marks {
			if m.parcel != nil {
				back = append(back, m.parcel)
			}
		}
	}
	if len(back) == 0 {
		return
	}
	l.mu.Lock()
	l.parcels = append(back, l.parcels...)
	l.mu.Unlock()
	l.pool.callSorter() // a collector that is down, or left, is not to keep them
}

// recall takes those parcels out of the queue that are meant.
func (l *lane) recall(meant func(*parcel) bool) (back []*parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parcels = slices.DeleteFunc(l.parcels, func(p *parcel) bool {
		is := meant(p)
		if is {
			back = append(back, p)
		}
		return is
	})
	return back
}

// letGo is for a parcel that is the lane's no longer.
func (l *lane) letGo(p *parcel) {
	l.pool.sorter.weigh(p, -1)
	if l.load.Add(-1) == 0 && l.leaving.Load() {
		l.pool.reap()
	}
}

// pack puts a parcel into the batch.
func (s *session) pack(p *parcel) {
	if p.unwanted() {
		s.letGo(p)
		s.pool.sorter.strayed(p) // which lets go of it
		return
	}
	if s.batch.records == 0 {
		s.timer.Reset(linger)
	}
	var held Held
	tmpl := p.feed.units.template(s.lane, p.feed.meta.Load())
	for i := range p.records {
		r := p.at(i)
		held.add(r)
		s.append(tmpl, r)
	}
	s.batch.marks = append(s.batch.marks, mark{feed: p.feed, held: held, parcel: p})
}

// delivered is for a parcel that the collector has acknowledged.
func (s *session) delivered(p *parcel) {
	f := p.feed
	first := f.units.done(p)
	s.letGo(p)
	p.free()
	// Whoever was first may have been looked at before this was free: a feed that is
	// to end has ended only now, and nothing else would tell of it.
	s.pool.acknowledged(f, first || f.ended())
}
