package web

import (
	"bytes"
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
	// maxKept bounds what is kept of a refused record, in bytes.
	maxKept = 64 << 10
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
}

// deliver sends a batch, in parts if need be, until every record of it is taken
// or refused for ever.
func (p *poster) deliver(ctx context.Context, b *batch) ([]ship.Refusal, error) {
	d := &delivery{poster: p, batch: b, todo: [][]Record{b.records}}
	for len(d.todo) > 0 {
		part := d.todo[0]
		d.todo = d.todo[1:]
		if len(part) == 0 {
			continue
		}
		reply, err := p.post(ctx, b.text, part)
		if err != nil {
			return nil, err
		}
		if err := d.consider(ctx, part, reply); err != nil {
			return nil, err
		}
	}
	trust := &p.conn.collector.trust
	switch {
	case d.taken > 0:
		trust.Restore()
	case len(d.refuse) > 0 && !trust.Spend(len(d.refuse)):
		return nil, d.allRefused()
	}
	return d.refuse, nil
}

// allRefused is for a collector that has not taken anything of late.
func (d *delivery) allRefused() error {
	return Misfit(d.refuse[0].Reason, "it refuses whatever it is sent, so that records are held back rather than put aside: is it the right collector, and set up for these records?")
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
		return d.split(part, r)
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
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
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
func (d *delivery) split(part []Record, r *Reply) error {
	if len(part) > 1 {
		half := len(part) / 2
		d.todo = append([][]Record{part[:half], part[half:]}, d.todo...)
		return nil
	}
	d.add(part, 1, r.Class, r.Said)
	if d.taken == 0 && len(d.refuse) > wire.MaxStrange {
		return d.allRefused()
	}
	return nil
}

// add notes that so many records of a part are refused.
func (d *delivery) add(part []Record, records int, class, reason string) {
	text := AppendText(nil, d.batch.text[:part[len(part)-1].to], part)
	d.refuse = append(d.refuse, ship.Refusal{
		ID: part[0].id(), Container: part[0].Group.Container, Records: records, Class: class, Reason: reason,
		Encoded: bytes.Clone(text[:min(len(text), maxKept)]),
	})
}
