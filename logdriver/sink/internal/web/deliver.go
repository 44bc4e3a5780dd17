package web

import (
	"context"
	"fmt"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	// firstPause is for how long records that the collector was too busy for wait.
	// It doubles each time.
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// delivery is what became of a batch so far.
type delivery struct {
	poster *poster
	batch  *batch
	todo   [][]Record // parts that are not sent, in order
	taken  int        // records
	refuse []ship.Refusal
	began  time.Time     // of being busy
	pause  time.Duration // the last one

	isolation *isolation // nil where nobody looks for records at which the collector fails
	doubted   []doubt    // records that it may have failed at rather than refused
	strange   int        // records that were refused alone by a status
	vouched   int        // how many were when it took the witness last
}

func (d *delivery) run(ctx context.Context) ([]ship.Refusal, error) {
	for len(d.todo) > 0 {
		part := d.todo[0]
		d.todo = d.todo[1:]
		if len(part) == 0 {
			continue
		}
		if err := d.try(ctx, part); err != nil {
			if err := d.isolate(part, err); err != nil {
				return nil, err
			}
		}
	}
	if err := d.convict(ctx); err != nil {
		return nil, err
	}
	if err := d.confirm(ctx); err != nil {
		return nil, err
	}
	if err := d.believe(ctx); err != nil {
		return nil, err
	}
	return d.refuse, nil
}

// consider sees to the answer to a part.
func (d *delivery) consider(ctx context.Context, part []Record, r *Reply) error {
	c := d.poster.conn.collector
	switch {
	case r.Err != nil:
		return r.Err
	case r.Class != "":
		if r.Smaller && len(part) > 1 {
			c.tooLarge(len(d.poster.raw))
		}
		return d.split(ctx, part, r)
	}
	verdict, err := c.Format.Judge(r.Body, len(part))
	if err != nil {
		return err
	}
	return d.judge(ctx, part, &verdict, r)
}

// judge is for a part that was taken, but for what the verdict names.
func (d *delivery) judge(ctx context.Context, part []Record, v *Verdict, r *Reply) error {
	d.taken += len(part) - len(v.Refused) - len(v.Busy) - v.Partial
	for _, one := range v.Refused {
		d.add(part[one.Index:one.Index+1], 1, one.Class, one.Reason)
	}
	if v.Partial > 0 {
		d.partial(part, v)
	}
	if d.isolation != nil && len(v.Refused)+len(v.Busy)+v.Partial == 0 {
		for i := range part {
			d.isolation.taken[part[i].Group] = part[i : i+1]
		}
	}
	if len(v.Refused)+len(v.Busy)+v.Partial == 0 {
		d.poster.conn.collector.witness.renew(d, part)
	}
	if len(v.Busy) == 0 {
		return nil
	}
	again := make([]Record, len(v.Busy))
	for i, n := range v.Busy {
		again[i] = part[n]
	}
	d.todo = append([][]Record{again}, d.todo...)
	return d.wait(ctx, v.Why, r)
}

// wait is for a collector that is too busy for some records.
func (d *delivery) wait(ctx context.Context, why string, r *Reply) error {
	if d.began.IsZero() {
		d.began, d.pause = time.Now(), firstPause
	}
	pause := max(d.pause, r.After)
	if time.Since(d.began)+pause > giveUp {
		return &Error{Said: why, Busy: true, After: r.After}
	}
	d.pause = min(2*d.pause, maxPause)
	return sleep(ctx, pause)
}

// partial is for records of which it is not known which they are.
func (d *delivery) partial(part []Record, v *Verdict) {
	if v.Partial == len(part) {
		for i := range part {
			d.add(part[i:i+1], 1, Invalid, v.Reason)
		}
		return
	}
	d.add(part, v.Partial, Partial, fmt.Sprintf("%d of the %d records from %s to %s, it is not said which: %s", v.Partial, len(part), part[0].id(), part[len(part)-1].id(), v.Reason))
}

// split is for a part that was refused as a whole.
func (d *delivery) split(ctx context.Context, part []Record, r *Reply) error {
	if len(part) > 1 {
		d.halve(part)
		return nil
	}
	if r.Doubtful {
		d.doubted = append(d.doubted, doubt{part, r.Class, r.Said})
	} else {
		d.add(part, 1, r.Class, r.Said)
	}
	if d.strange++; d.strange > max(wire.MaxStrange, 2*d.vouched) {
		return d.vouch(ctx)
	}
	return nil
}

func (d *delivery) halve(part []Record) {
	half := len(part) / 2
	d.todo = append([][]Record{part[:half], part[half:]}, d.todo...)
}

// add notes that so many records of a part are refused.
func (d *delivery) add(part []Record, records int, class, reason string) {
	text := AppendText(nil, d.batch.text[:part[len(part)-1].to], part)
	d.refuse = append(d.refuse, ship.Refusal{
		ID: part[0].id(), Container: part[0].Group.Container, Records: records, Class: class, Reason: reason,
		Encoded: wire.Kept(text),
	})
}
