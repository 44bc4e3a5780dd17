package web

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// A record at which a collector fails, by its status or by ending the connection,
// looks like a collector that is down, and is sent again as that is: with all that
// was in its batch, for ever. So a batch that has failed for long enough is sent in
// parts, until the records are alone that do it.
//
// What must not happen is that records are given up because the collector, or a part
// of it, is out of order. So a record is put aside only if, when it fails alone, the
// collector takes another one of the same stream, twice in turn; and no more than
// a few in an hour. What says that it is busy is never meant, nor one that is not
// reached.

const (
	// defaultIsolate is the parameter isolate-after.
	defaultIsolate = time.Minute
	maxIsolate     = 24 * time.Hour
	// isolateTries is how often a batch has to have failed besides.
	isolateTries = 5
	// inTurn is how often a record that fails and one that does not are sent in turn.
	inTurn = 2
	// maxSuspects is how many records of a batch may fail alone before the collector
	// is taken for out of order, and aloneSuspects where it has taken none.
	maxSuspects   = 16
	aloneSuspects = 3
	// maxConvicted is how many records are put aside so within convictTime.
	maxConvicted = 16
	convictTime  = time.Hour
	// maxCases is more than there are batches under way.
	maxCases = maxConnections + 1
)

// span is a range of offsets of one stream, both ends included.
type span struct{ first, last uint64 }

// troubles are the batches of one collector that failed.
type troubles struct {
	mu        sync.Mutex // guards what follows
	cases     []trouble
	convicted map[recordID]conviction // of the last while
}

type recordID struct {
	stream string
	offset uint64
}

// conviction is a record that is not sent any more.
type conviction struct {
	at     time.Time
	reason string
}

// trouble is what some batches had in common that failed, one after the other.
type trouble struct {
	streams map[string]span
	since   time.Time
	tries   int
}

func spansOf(records []Record) map[string]span {
	all := map[string]span{}
	for i := range records {
		r := &records[i]
		s, seen := all[r.Group.Stream]
		if !seen {
			s = span{r.Offset, r.Offset}
		}
		all[r.Group.Stream] = span{min(s.first, r.Offset), max(s.last, r.Offset)}
	}
	return all
}

// common returns what is in both.
func common(a, b map[string]span) map[string]span {
	both := map[string]span{}
	for stream, x := range a {
		y, ok := b[stream]
		if s := (span{max(x.first, y.first), min(x.last, y.last)}); ok && s.first <= s.last {
			both[stream] = s
		}
	}
	return both
}

// failed notes that a batch did.
func (t *troubles) failed(b *batch, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	streams := spansOf(b.records)
	for i := range t.cases {
		c := &t.cases[i]
		if both := common(c.streams, streams); len(both) > 0 {
			c.streams, c.tries = both, c.tries+1
			return
		}
	}
	if len(t.cases) >= maxCases {
		t.cases = t.cases[1:]
	}
	t.cases = append(t.cases, trouble{streams, now, 1})
}

// passed forgets what a batch had in it that was taken.
func (t *troubles) passed(b *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.cases) == 0 {
		return
	}
	streams, rest := spansOf(b.records), t.cases[:0]
	for _, c := range t.cases {
		if len(common(c.streams, streams)) == 0 {
			rest = append(rest, c)
		}
	}
	t.cases = rest
}

// overdue reports whether a batch has failed for long enough, and since when.
func (t *troubles) overdue(b *batch, after time.Duration, now time.Time) (since time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.cases) == 0 || after == 0 {
		return since, false
	}
	streams := spansOf(b.records)
	for _, c := range t.cases {
		if c.tries >= isolateTries && now.Sub(c.since) >= after && len(common(c.streams, streams)) > 0 {
			return c.since, true
		}
	}
	return since, false
}

// convict notes that a record is put aside, and reports whether one more may be.
func (t *troubles) convict(r *Record, reason string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.convicted, func(_ recordID, c conviction) bool { return now.Sub(c.at) >= convictTime })
	if len(t.convicted) >= maxConvicted {
		return false
	}
	if t.convicted == nil {
		t.convicted = map[recordID]conviction{}
	}
	t.convicted[recordID{r.Group.Stream, r.Offset}] = conviction{now, reason}
	return true
}

// putAside leaves out what was put aside before, and has come again because what
// was sent together with it was not acknowledged.
func (d *delivery) putAside(records []Record) []Record {
	t := &d.poster.conn.collector.troubles
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.convicted) == 0 {
		return records
	}
	rest := make([]Record, 0, len(records))
	for i := range records {
		c, ok := t.convicted[recordID{records[i].Group.Stream, records[i].Offset}]
		if ok {
			d.add(records[i:i+1], 1, Failing, c.reason)
		} else {
			rest = append(rest, records[i])
		}
	}
	return rest
}

// dialError says that the collector was not reached.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// troubled reports whether an error may be for what was sent.
func troubled(err error) bool {
	if told := new(Error); errors.As(err, &told) {
		return !told.Busy && told.Advice == ""
	}
	return err != nil && !errors.As(err, new(dialError)) && !errors.As(err, new(*wire.TLSError)) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed)
}

// isolation looks for the records of a batch at which the collector fails.
type isolation struct {
	since    time.Time
	suspects []suspect
	taken    map[*Group][]Record // one that it took, of each group
}

// suspect is one record that failed alone.
type suspect struct {
	part []Record
	err  error
}

// isolate is for a part that failed: it returns the error where that says nothing
// of the part.
func (d *delivery) isolate(part []Record, err error) error {
	i := d.isolation
	if i == nil || !troubled(err) {
		return err
	}
	if len(part) > 1 {
		d.halve(part)
		return nil
	}
	i.suspects = append(i.suspects, suspect{part, err})
	if n := len(i.suspects); n > maxSuspects || n >= aloneSuspects && len(i.taken) == 0 {
		return err
	}
	return nil
}

// convict puts aside the records that failed alone, if the collector does take others.
func (d *delivery) convict(ctx context.Context) error {
	if d.isolation == nil {
		return nil
	}
	for _, s := range d.isolation.suspects {
		other := d.isolation.taken[s.part[0].Group]
		if len(other) == 0 {
			return s.err // it may be the collector, or what it has for this stream
		}
		fails, err := d.inTurn(ctx, &s, other)
		if err != nil {
			return err
		}
		if fails {
			if err := d.convictOne(&s); err != nil {
				return err
			}
		}
	}
	return nil
}

// inTurn sends a record and another one in turn, and reports whether it is the record.
func (d *delivery) inTurn(ctx context.Context, s *suspect, other []Record) (fails bool, err error) {
	pause := min(d.poster.conn.collector.isolate/10, time.Second)
	for range inTurn {
		if err := sleep(ctx, pause); err != nil {
			return false, err
		}
		if s.err = d.sendAlone(ctx, s.part); s.err == nil {
			return false, nil // taken, or refused, after all
		}
		if !troubled(s.err) {
			return false, s.err
		}
		if err := d.sendAlone(ctx, other); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (d *delivery) try(ctx context.Context, part []Record) error {
	reply, err := d.poster.post(ctx, d.batch.text, part)
	if err != nil {
		return err
	}
	return d.consider(ctx, part, reply)
}

// sendAlone sends one record. That the collector is too busy for it is an error here.
func (d *delivery) sendAlone(ctx context.Context, part []Record) error {
	if err := d.try(ctx, part); err != nil {
		return err
	}
	if len(d.todo) > 0 {
		return &Error{Said: "that it is too busy for a record", Busy: true}
	}
	return nil
}

// convictOne puts a record aside.
func (d *delivery) convictOne(s *suspect) error {
	said := s.err.Error()
	reason := fmt.Sprintf("sent again and again since %s, and at last alone, while others of the container were taken: %s", d.isolation.since.UTC().Format(time.RFC3339), said)
	if !d.poster.conn.collector.troubles.convict(&s.part[0], reason, time.Now()) {
		return Misfit(said, fmt.Sprintf("it has failed at more than %d records within %v while it took others, so that the next ones are held back rather than put aside: something is wrong with it", maxConvicted, convictTime))
	}
	d.add(s.part, 1, Failing, reason)
	return nil
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// deliver sends a batch, in parts if need be, until every record of it is taken
// or refused for ever.
func (p *poster) deliver(ctx context.Context, b *batch) ([]ship.Refusal, error) {
	c, d := p.conn.collector, &delivery{poster: p, batch: b}
	d.todo = [][]Record{d.putAside(b.records)}
	if since, ok := c.troubles.overdue(b, c.isolate, time.Now()); ok {
		d.isolation = &isolation{since: since, taken: map[*Group][]Record{}}
		c.Host.Log.Warn("a collector fails again and again at the same records; they are sent in parts, to find out which", "address", c.Addr, "since", since)
	}
	refused, err := d.run(ctx)
	if troubled(err) {
		c.troubles.failed(b, time.Now())
	} else if err == nil {
		c.troubles.passed(b)
	}
	return refused, err
}
