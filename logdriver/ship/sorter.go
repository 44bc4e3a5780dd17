package ship

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// sorter is the lane of those feeds of a pool whose records go to several
// collectors. It reads each once and hands its records to the lanes of their
// collectors, in parcels.
type sorter struct {
	*lane
	members map[string]*lane
	pick    func(key []byte) string // the name of a member; nil where there is none
	calm    func(key []byte) string // of one that sheds nothing; nil where all or none do
	trial   func(key []byte) string // of one that takes records or has them on trial, for the next window
	key     []byte
	bins    []*lane            // whose bin holds something
	full    map[*feed]struct{} // those that wait for acknowledgements, or for a collector, before more is read
	ranges  []Range
	open    patience
	held    atomic.Int64 // bytes of records that are under way

	news  sync.Mutex // guards what follows
	acked []*feed    // of which something was acknowledged and not noted
	stray []*parcel  // that no lane has
}

// maxSorted bounds the bytes of records that the feeds of one sorter have under way.
const maxSorted = 32 << 20

func (p *pool) startSorterLocked() {
	l := newLane(Collector{Sink: nobody{}}, p.owner.log, &p.owner.Stats, p)
	s := &sorter{lane: l, full: map[*feed]struct{}{}, open: newPatience()}
	p.sorter = s
	p.owner.lanes.Go(func() { s.run(p.ctx) })
	poke(l.turn)
}

// callSorter has the sorter look at the lanes anew.
func (p *pool) callSorter() {
	p.mu.Lock()
	s := p.sorter
	p.mu.Unlock()
	if s != nil {
		poke(s.turn)
	}
}

// acknowledged wakes the sorter after a parcel has been acknowledged. news says
// that it has to look at the feed, as it has not been told to yet: nothing of it
// waited to be noted before, or it has ended.
func (p *pool) acknowledged(f *feed, news bool) {
	s := p.sorter // there since before there was a parcel
	if news {
		s.news.Lock()
		s.acked = append(s.acked, f)
		s.news.Unlock()
	}
	poke(s.wake)
}

func (s *sorter) run(ctx context.Context) {
	defer s.finish()
	for ctx.Err() == nil {
		select {
		case <-s.turn:
			s.look()
		default:
		}
		s.flush()
		if s.sortNext() {
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-s.turn:
			s.look()
		case <-s.open.C:
			s.open.runs = false
			s.expire()
		}
	}
}

// look takes over who is in the pool and well, and takes parcels back from who
// is not.
func (s *sorter) look() {
	s.letGoOfEnded()
	var former []*lane
	s.members, former = s.takers()
	for f := range s.feeds {
		f.units.forget()
	}
	if s.pick == nil {
		s.keep(former)
		return
	}
	for f := range s.full {
		s.goOn(f)
	}
	s.news.Lock()
	stray := s.stray
	s.stray = nil
	s.news.Unlock()
	for _, p := range stray {
		s.resort(p)
		p.free()
	}
	for _, l := range former {
		for _, p := range l.recall(anyParcel) {
			s.resort(p)
			l.letGo(p)
			p.free()
		}
	}
}

// letGoOfEnded takes parcels away from lanes that have not sent them, if their
// feeds are over or to end.
func (s *sorter) letGoOfEnded() {
	s.pool.mu.Lock()
	lanes := slices.AppendSeq(slices.Collect(maps.Values(s.pool.lanes)), maps.Keys(s.pool.leaving))
	s.pool.mu.Unlock()
	for _, l := range lanes {
		for _, p := range l.recall((*parcel).unwanted) {
			l.letGo(p)
			p.free()
		}
	}
	s.news.Lock()
	s.stray = slices.DeleteFunc(s.stray, func(p *parcel) bool {
		is := p.unwanted()
		if is {
			p.free()
		}
		return is
	})
	s.news.Unlock()
	for f := range s.feeds {
		if f.closing.Load() {
			delete(s.full, f)
			f.notify()
		}
	}
}

// keep takes back what lanes have of which the collector is in the pool no longer,
// until there is one that is.
func (s *sorter) keep(former []*lane) {
	for _, l := range former {
		for _, p := range l.recall(anyParcel) {
			l.letGo(p)
			s.news.Lock()
			s.stray = append(s.stray, p)
			s.news.Unlock()
		}
	}
}

// takers finds out who takes records: all that are well, or all where none is.
// former are those whose parcels are to go elsewhere.
func (s *sorter) takers() (members map[string]*lane, former []*lane) {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	members = map[string]*lane{}
	var well, calm, all, trial []string
	for name, l := range p.lanes {
		all, members[name] = append(all, name), l
		if l.healthy.Load() {
			well = append(well, name)
			if l.level.Load() == 0 {
				calm = append(calm, name)
			}
		} else {
			former = append(former, l)
			if l.trial.Swap(false) {
				trial = append(trial, name)
			}
		}
	}
	s.pick, s.calm, s.trial = nil, nil, nil
	switch {
	case len(all) == 0:
	case len(well) == 0:
		s.pick, former = p.among(all), nil
	default:
		s.pick = p.among(well)
		if len(trial) > 0 {
			s.trial = p.among(slices.Concat(well, trial))
		}
		if len(calm) > 0 && len(calm) < len(well) {
			s.calm = p.among(calm)
		}
	}
	return members, slices.AppendSeq(former, maps.Keys(p.leaving))
}

// sortNext sorts a window of the next feed. It reports whether there was one.
func (s *sorter) sortNext() bool {
	if s.held.Load() >= maxSorted {
		return false
	}
	f := s.pop()
	switch {
	case f == nil:
		return false
	case f.closing.Load():
		s.note(f)
		s.rest(f)
	case s.pick == nil && !f.src.Pending(f.read):
		s.rest(f)
	case s.pick == nil || !f.units.room():
		s.full[f] = struct{}{}
	default:
		s.sort(f)
	}
	return true
}

// goOn has a feed read again that waited for room, if there is some.
func (s *sorter) goOn(f *feed) {
	if _, ok := s.full[f]; ok && f.units.room() {
		delete(s.full, f)
		f.notify()
	}
}

func (s *sorter) sort(f *feed) {
	emit := func(r *Record) { s.emit(f, r) }
	buf := s.buf[:sortWindow]
	more, err := f.fill(&buf, emit)
	if len(buf) > sortWindow && err == nil { // grown for a frame that is larger
		more, err = f.fill(&buf, emit)
	}
	s.trial = nil
	f.units.cut(f.safe)
	s.handOut()
	if err != nil {
		s.unreadable(f, err)
		return
	}
	s.open.with(f)
	if more {
		if f.parcels.Load() == 0 {
			s.note(f) // of a busy stream of which nothing is sent
		}
		f.notify()
		return
	}
	s.note(f)
	if !f.paused {
		s.rest(f)
	}
}

// emit puts a record into the bin of its collector.
func (s *sorter) emit(f *feed, r *Record) {
	f.mark()
	l := s.choose(f, r.Offset)
	s.put(l, f, r, f.units.add(l, f.safe, max(f.end, f.read)))
}

// choose returns the lane of the record at an offset: its key is its id.
func (s *sorter) choose(f *feed, offset uint64) *lane {
	s.key = appendID(s.key[:0], f.id.stream, offset)
	if s.trial != nil {
		return s.members[s.trial(s.key)]
	}
	l := s.members[s.pick(s.key)]
	if s.calm != nil && l.sheds(uint8(offset*0x9e3779b97f4a7c15>>56)) {
		return s.members[s.calm(s.key)]
	}
	return l
}

// appendID appends the id of a record: the stream's and its number in 16
// hexadecimal digits.
func appendID(dst []byte, stream string, offset uint64) []byte {
	dst = append(append(dst, stream...), '-')
	for room := uint64(1 << 60); room > max(offset, 1); room >>= 4 {
		dst = append(dst, '0')
	}
	return strconv.AppendUint(dst, offset, 16)
}

func (s *sorter) put(l *lane, f *feed, r *Record, unit uint64) {
	if l.bin == nil {
		l.bin = parcels.Get().(*parcel)
		l.bin.feed = f
		f.parcels.Add(1)
		s.bins = append(s.bins, l)
	}
	l.bin.add(r, unit)
}

// handOut gives what is in the bins to the lanes.
func (s *sorter) handOut() {
	for _, l := range s.bins {
		p := l.bin
		l.bin = nil
		s.weigh(p, 1)
		if !l.pushParcel(p) {
			s.weigh(p, -1)
			s.strayed(p) // it has just left the pool
		}
	}
	s.bins = s.bins[:0]
}

// strayed is for a parcel of a lane that is no more.
func (s *sorter) strayed(p *parcel) {
	s.news.Lock()
	s.stray = append(s.stray, p)
	s.news.Unlock()
	poke(s.turn)
}

// weigh counts a parcel as under way, or as not any more.
func (s *sorter) weigh(p *parcel, sign int) {
	p.feed.units.weigh(sign * p.weight())
	s.held.Add(int64(sign * p.weight()))
}

// resort hands the records of a parcel out once more.
func (s *sorter) resort(p *parcel) {
	for i := range p.records {
		r := p.at(i)
		s.put(s.choose(p.feed, r.Offset), p.feed, r, p.records[i].unit)
	}
	s.handOut()
}

// flush notes what was acknowledged, and goes on with feeds that waited for it.
func (s *sorter) flush() {
	s.news.Lock()
	acked := s.acked
	s.acked = nil
	s.news.Unlock()
	for _, f := range acked {
		if f.over.Load() {
			delete(s.full, f)
			continue
		}
		s.note(f)
		s.settled(f)
		s.goOn(f)
	}
}

func (s *sorter) note(f *feed) { s.ranges = f.noteInto(s.ranges[:0]) }

// expire sends lines that do not go on, see session.expire.
func (s *sorter) expire() {
	for f := range s.feeds {
		if !f.unfinished() {
			continue
		}
		if s.pick != nil && !f.src.Pending(f.read) {
			f.expire(func(r *Record) { s.emit(f, r) })
			f.units.cut(f.safe)
			s.handOut()
		}
		s.open.with(f)
	}
}

// note tells the source what is acknowledged of a feed whose records go to
// several collectors.
func (f *feed) note() { f.noteInto(nil) }

func (f *feed) noteInto(ranges []Range) []Range {
	if f.units == nil {
		return ranges
	}
	if ranges = f.units.flush(ranges); len(ranges) > 0 && ranges[len(ranges)-1].To > f.acked {
		f.acked = ranges[0].To
		f.noted(f.src.AckRanges(ranges...))
	}
	return ranges
}
