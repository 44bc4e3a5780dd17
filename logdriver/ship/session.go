package ship

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// linger is how long a batch that is not full waits for more records.
	linger = 5 * time.Millisecond
	// sendTimeout bounds the hand-over of one batch to a collector that does
	// not read.
	sendTimeout = 30 * time.Second
	// drainTime bounds the wait for a collector when the plugin stops: for it to
	// take the batch that is being sent, and to acknowledge what is under way.
	// What comes later would be sent again by the next process.
	drainTime = 2 * time.Second
	// readRetry is when a stream that cannot be read is tried again.
	readRetry = time.Second
)

// session is the work on one connection of a lane.
type session struct {
	*lane
	conn     Conn
	grace    context.Context // ends some time after the lane's: nothing is waited for any more
	limits   Limits
	ackCount uint64 // batches acknowledged on this connection
	progress bool
	held     bool // the connection has lasted, and it is left to an acknowledgement to show that all is well
	lingered bool
	timer    *time.Timer // runs while the batch holds records and is not full
	open     patience
	acks     chan ackEvent
	cutter   cutter
}

type ackEvent struct {
	count   uint64
	refused []Refusal // in the batches that are new in count
	err     error
}

var errDrained = errors.New("plugin is stopping")

func newSession(l *lane, conn Conn) *session {
	limits := l.sink.Limits()
	s := &session{lane: l, conn: conn, limits: limits, cutter: cutter{limits: limits}, acks: make(chan ackEvent), timer: time.NewTimer(time.Hour), open: newPatience()}
	s.timer.Stop()
	return s
}

// run works until the connection breaks or ctx ends. Acknowledgements that
// came before the end are applied in any case.
func (s *session) run(ctx context.Context) error {
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var late context.CancelFunc
	s.grace, late = context.WithCancel(wctx)
	defer late()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drainTime, late) })()
	go s.waitForAcks(wctx)
	err := s.loop(ctx)
	if errors.Is(err, errDrained) {
		s.drain()
		err = nil
	}
	cancel()
	cerr := s.conn.Close()
	for e := range s.acks {
		s.apply(e)
	}
	s.timer.Stop()
	s.open.Stop()
	if err == nil && cerr != nil && len(s.sent) > 0 {
		err = fmt.Errorf("close the connection: %w", cerr)
	}
	return err
}

// waitForAcks reports every change of the acknowledged count until the
// connection ends, then closes the channel.
func (s *session) waitForAcks(ctx context.Context) {
	defer close(s.acks)
	var seen uint64
	for {
		n, err := s.conn.Wait(ctx, seen)
		seen = max(seen, n)
		s.acks <- ackEvent{seen, refused(s.conn), err} // always taken: by loop, drain or the end of run
		if err != nil {
			return
		}
	}
}

func (s *session) loop(ctx context.Context) error {
	hold := s.holdTimer()
	for {
		s.fill()
		s.gauge.block(s.full() && len(s.sent) >= s.limits.InFlight)
		if s.due() {
			if err := s.send(ctx); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return errDrained
		case <-s.wake:
		case <-s.turn:
			s.rehome()
		case e := <-s.acks:
			s.apply(e)
			if e.err != nil {
				return e.err
			}
		case <-s.timer.C:
			s.lingered = true
		case <-s.open.C:
			s.open.runs = false
			s.expire()
		case <-hold:
			s.probe()
			hold = s.holdTimer()
		}
	}
}

// holdTimer runs where the collector was taken for down.
func (s *session) holdTimer() <-chan time.Time {
	if s.healthy.Load() {
		return nil
	}
	return time.After(s.hold)
}

// probe is for a collector that was down and has been connected for a while: it
// has to acknowledge something before all streams that prefer it return.
func (s *session) probe() {
	if s.held = true; s.progress || !s.pool.probe(s.lane) {
		s.setHealthy(true)
	}
}

// due reports whether the batch is to be sent now.
func (s *session) due() bool {
	return s.batch.records > 0 && len(s.sent) < s.limits.InFlight && (s.full() || s.lingered)
}

func (s *session) full() bool {
	return len(s.batch.bytes) >= s.limits.BatchBytes || s.batch.records >= s.limits.BatchRecords
}

// fill takes windows of the feeds that wait, in turn, until the batch is full.
func (s *session) fill() {
	for !s.full() {
		p := s.popParcel()
		if p != nil {
			s.pack(p)
		}
		f := s.pop()
		if f == nil && p == nil {
			return
		}
		if f == nil || s.handOn(f) {
			continue
		}
		if f.held = f.home() != s.lane; !f.held {
			s.take(f)
		}
	}
}

// take puts one window of a feed into the batch.
func (s *session) take(f *feed) {
	if m := f.meta.Load(); f.tmpl == nil || f.prepared != m {
		f.tmpl, f.prepared = s.prepare(m), m
	}
	if t, ok := f.tmpl.Template.(Spreader); ok {
		t.Spread(int(f.place.Load()))
	}
	before := s.batch.records
	more, err := f.fill(&s.buf, func(r *Record) { s.add(f, r) })
	if err != nil {
		s.unreadable(f, err)
		return
	}
	s.note(f, before)
	if more {
		f.notify()
		return
	}
	if !f.paused {
		s.rest(f)
	}
}

// note is for a feed that has been worked on, when there were so many records
// in the batch.
func (s *session) note(f *feed, before int) {
	s.open.with(f)
	if s.batch.records == before {
		f.settle() // a busy stream of which nothing is sent must not wait for a rest
		return
	}
	f.outstanding++
	s.batch.marks = append(s.batch.marks, mark{feed: f, safe: f.safe, held: f.counting})
	f.counting = Held{}
	if before == 0 {
		s.timer.Reset(linger)
	}
}

// expire puts lines into the batch that do not go on. Where there is more to
// read they may, and where the feed is to move the next lane sees to it.
func (s *session) expire() {
	for f := range s.feeds {
		if !f.unfinished() {
			continue
		}
		before := s.batch.records
		if !s.full() && !f.held && f.home() == s.lane && !f.src.Pending(f.read) {
			f.expire(func(r *Record) { s.add(f, r) })
		}
		s.note(f, before)
	}
}

// add puts a record of a feed of the lane's into the batch.
func (s *session) add(f *feed, r *Record) {
	f.counting.add(r)
	s.append(f.tmpl, r)
}

func (s *session) send(ctx context.Context) error {
	s.timer.Stop()
	s.lingered = false
	// When ctx ends in the middle of this it may go on for as long as
	// acknowledgements are waited for: a batch cut off would have to be sent again.
	sctx, cancel := context.WithTimeout(s.grace, sendTimeout)
	defer cancel()
	b := s.batch
	s.batch = batch{bytes: b.bytes[:0]}
	s.sent = append(s.sent, batch{at: s.gauge.now(), records: b.records, marks: b.marks})
	s.gauge.oldest.Store(s.sent[0].at)
	// Counted before it is known what became of it: part of it may have arrived.
	s.stats.Batches.Add(1)
	s.stats.Sent.Add(uint64(b.records))
	s.stats.SentBytes.Add(uint64(len(b.bytes)))
	s.gauge.block(true)
	err := s.conn.Send(sctx, b.bytes)
	s.gauge.block(false)
	if err != nil {
		if ctx.Err() != nil {
			return errDrained
		}
		return fmt.Errorf("send a batch: %w", err)
	}
	return nil
}

// apply moves the cursors of the batches that are acknowledged.
func (s *session) apply(e ackEvent) {
	refused := s.putAside(e.refused)
	for s.ackCount < e.count && len(s.sent) > 0 {
		b := s.sent[0]
		s.sent = s.sent[1:]
		s.ackCount++
		s.progress = true
		if s.healthy.Load() {
			s.trouble.Store(nil)
		}
		s.gauge.acknowledged(b.at)
		not := min(refused, uint64(b.records))
		refused -= not
		s.stats.Acked.Add(uint64(b.records) - not)
		s.counts.Acked.Add(uint64(b.records) - not)
		for _, m := range b.marks {
			s.tellHeld(m.feed, m.held)
			if m.parcel != nil {
				s.delivered(m.parcel)
				continue
			}
			m.feed.outstanding--
			m.feed.ack(m.safe)
			s.settled(m.feed)
		}
	}
	s.gauge.oldest.Store(0)
	if len(s.sent) > 0 {
		s.gauge.oldest.Store(s.sent[0].at)
	}
	if s.held && s.progress {
		s.setHealthy(true)
	}
}

// drain waits for what is under way, up to a deadline.
func (s *session) drain() {
	for len(s.sent) > 0 {
		select {
		case e := <-s.acks:
			s.apply(e)
			if e.err != nil {
				return
			}
		case <-s.grace.Done():
			s.log.Info("stopped with batches under way; they will be sent again", "batches", len(s.sent))
			return
		}
	}
}
