package kafka

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// Classes of refusals.
const (
	classInvalid  = "invalid"
	classTooLarge = "too-large"
	classNoTopic  = "no-topic"
)

const (
	// leastChunk is down to which size brokers that take no larger batches are
	// given way.
	leastChunk = 16 << 10
	// told is after how many records whoever waits for them hears of it.
	told = 256
)

// delivery is what became of a batch so far.
type delivery struct {
	conn   *conn
	batch  *batch
	todo   [][]int // entries that are not produced yet, in order
	taken  int
	refuse []ship.Refusal
	chunk  int64 // of the cluster, before
}

// deliver produces a batch until every record of it is taken, or refused for ever.
func (c *conn) deliver(b *batch) error {
	d := &delivery{conn: c, batch: b, chunk: c.cluster.chunk.Load()}
	all := make([]int, len(b.entries))
	for i := range all {
		all[i] = i
	}
	d.todo = d.chunks(all)
	if !c.known && len(all) > 1 && c.cluster.topic.Fixed() {
		// Until the client knows a topic's partitions it gathers what is for them, and
		// then sends it on by and by, in requests that end anywhere: if one of these is
		// refused the ones behind it overtake it. (Rarely it cuts what it is given later,
		// too, when a round of sending takes long to end.)
		d.todo = append([][]int{all[:1]}, d.chunks(all[1:])...)
	}
	c.known = true
	for len(d.todo) > 0 {
		part := d.todo[0]
		d.todo = d.todo[1:]
		failed, err := d.produce(part)
		if err != nil {
			return err
		}
		if d.taken += len(part) - len(failed); len(failed) > 0 {
			if err := d.consider(part, failed); err != nil {
				return err
			}
		}
	}
	return d.finish()
}

// finish is for a batch of which nothing is left.
func (d *delivery) finish() error {
	trust := &d.conn.cluster.trust
	switch {
	case d.taken > 0:
		trust.Restore()
	case len(d.refuse) > 0 && !trust.Spend(len(d.refuse)):
		return d.allRefused()
	}
	if now := d.conn.cluster.chunk.Load(); now < d.chunk {
		c := d.conn.cluster
		c.Host.Log.Warn("the brokers take no batches as large as max-message allows; smaller ones are sent, which costs throughput: set max-message to the topic's max.message.bytes",
			"address", c.Addr, "max-message", c.MaxMessage, "batch", now)
	}
	d.conn.refused.Add(d.batch.number, d.refuse...)
	d.conn.done += uint64(len(d.refuse))
	d.conn.ledger.Advance(d.conn.done)
	return nil
}

// allRefused is for a cluster that has not taken anything of late.
func (d *delivery) allRefused() error {
	return &Error{Err: errors.New(d.refuse[0].Reason), Advice: "the cluster refuses whatever it is sent, so that records are held back rather than put aside: is it the right one, and set up for these records?"}
}

// chunks parts entries so that brokers take what they get at once.
func (d *delivery) chunks(entries []int) (parts [][]int) {
	most, size, from := int(d.conn.cluster.chunk.Load()), 0, 0
	for i, n := range entries {
		e := &d.batch.entries[n]
		if size += e.to - e.from; size > most && i > from {
			parts, from, size = append(parts, entries[from:i]), i, e.to-e.from
		}
	}
	return append(parts, entries[from:])
}

// failure is a record that was not taken.
type failure struct {
	record *kgo.Record
	entry  int
	err    error
}

// produce produces entries as a whole, and returns those that were not taken, in
// order. An error is for all.
func (d *delivery) produce(entries []int) ([]failure, error) {
	var failed []failure // the client calls one promise at a time
	c := d.conn
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			failed = append(failed, failure{record: r, err: err})
			return
		}
		if c.done++; c.done%told == 0 {
			c.ledger.Advance(c.done)
		}
	}
	for _, n := range entries {
		r := &d.batch.records[n]
		r.Partition = int32(d.batch.entries[n].place) //nolint:gosec // for partitioner; it is small
		c.client.Produce(c.batches.Context(), r, promise)
	}
	if err := c.client.Flush(c.batches.Context()); err != nil {
		return nil, err
	}
	c.ledger.Advance(c.done)
	if len(failed) > 0 {
		d.place(failed)
	}
	c.cluster.missing.seen(d.batch, entries, failed)
	return failed, nil
}

// place finds out which entries failed, and puts them in order.
func (d *delivery) place(failed []failure) {
	at := make(map[*kgo.Record]int, len(d.batch.records))
	for i := range d.batch.records {
		at[&d.batch.records[i]] = i
	}
	for i := range failed {
		failed[i].entry = at[failed[i].record]
	}
	slices.SortFunc(failed, func(a, b failure) int { return a.entry - b.entry })
}

// consider sees to what of a part was not taken.
func (d *delivery) consider(part []int, failed []failure) error {
	var again, away []int
	size, tooLarge := 0, false
	for _, f := range failed {
		e := &d.batch.entries[f.entry]
		switch v := judge(f.err); {
		case v == trouble || v == misfit:
			return f.err
		case v == homeless && d.conn.cluster.topic.Fixed():
			return fmt.Errorf("topic %s: %w", f.record.Topic, f.err)
		case v == homeless && !d.conn.cluster.missing.gone(f.record.Topic, d.conn.cluster.Timeout, time.Now()):
			away = append(away, f.entry)
		case v == homeless:
			d.add(f, classNoTopic, fmt.Sprintf("topic %s: %v: %s", f.record.Topic, f.err, advice(f.err)))
		case v == large && footprint(f.record.Key, f.record.Value, f.record.Headers) > d.conn.cluster.MaxMessage:
			d.tooLarge(f) // the client has not even sent it
		default:
			tooLarge = tooLarge || v == large
			size += e.to - e.from
			again = append(again, f.entry)
		}
	}
	if len(away) > 0 {
		d.todo = append([][]int{away}, d.todo...)
		select {
		case <-time.After(metadataAge):
		case <-d.conn.batches.Context().Done():
			return d.conn.batches.Context().Err()
		}
	}
	switch {
	case len(again) == 0:
	case len(again) == 1:
		return d.alone(failed, again[0])
	case tooLarge && size > leastChunk:
		// Unless it turns out that it was one record: see tooLarge.
		d.conn.cluster.chunk.Store(int64(max(min(size, int(d.conn.cluster.chunk.Load()))/2, leastChunk)))
		d.todo = append(d.chunks(again), d.todo...)
	default:
		half := len(again) / 2
		d.todo = append([][]int{again[:half], again[half:]}, d.todo...)
	}
	return nil
}

// alone is for the only record that failed: what fails with others has them fail,
// too, so it is the one that is meant.
func (d *delivery) alone(failed []failure, n int) error {
	f := failed[slices.IndexFunc(failed, func(f failure) bool { return f.entry == n })]
	if judge(f.err) == large {
		d.tooLarge(f)
	} else {
		d.add(f, classInvalid, f.err.Error())
	}
	if d.taken == 0 && len(d.refuse) > wire.MaxStrange {
		return d.allRefused()
	}
	return nil
}

// tooLarge is for a record that is, by itself, and not what it came with.
func (d *delivery) tooLarge(f failure) {
	d.conn.cluster.chunk.Store(d.chunk)
	d.add(f, classTooLarge, f.err.Error()+"; what brokers take is the topic's max.message.bytes, and how large messages and lines may be the collector's URL says with max-message and max-line")
}

// envelope is what a message takes beside key, value and headers, alone in its
// batch, at most.
const envelope = 100

// footprint is how large a message is before it is compressed.
func footprint(key, value []byte, headers []kgo.RecordHeader) int {
	n := envelope + len(key) + len(value)
	for _, h := range headers {
		n += len(h.Key) + len(h.Value) + 10 // their lengths
	}
	return n
}

// add notes that a record is refused.
func (d *delivery) add(f failure, class, reason string) {
	e := &d.batch.entries[f.entry]
	text := d.batch.text[e.from:e.to]
	d.refuse = append(d.refuse, ship.Refusal{
		ID: string(e.id), Container: e.template.container, Records: 1, Class: class, Reason: reason,
		Encoded: wire.Kept(text),
	})
}

var _ interface {
	ship.Conn
	ship.Refuser
} = (*conn)(nil)
