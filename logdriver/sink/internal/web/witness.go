package web

import (
	"context"
	"sync"
	"time"

	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// A collector that is out of order may answer as if it refused what is in a
// request, from one moment to the next, and then to all that it is sent. So what it
// has taken of late is kept: where it does not take that once more, it is the
// collector, and nothing is put aside.

const (
	// witnessAge is how old a witness may become while there are others.
	witnessAge = time.Minute
	maxWitness = 16 << 10 // bytes
)

// witness is a request with one record that the collector has taken.
type witness struct {
	mu   sync.Mutex // guards what follows
	body []byte
	at   time.Time
}

// renew takes one of the records of a part that was taken for the witness.
func (w *witness) renew(d *delivery, part []Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := part[len(part)-1:]
	if len(one[0].Text(d.batch.text)) > maxWitness || len(w.body) > 0 && time.Since(w.at) < witnessAge {
		return
	}
	w.body, w.at = d.poster.conn.collector.Format.Body(nil, d.batch.text, one), time.Now()
}

func (w *witness) get() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body
}

// doubt is a record that was refused alone with a status that may as well be the
// collector's own trouble.
type doubt struct {
	part        []Record
	class, said string
}

// vouch sends the witness: without an error, the collector takes what it should.
func (d *delivery) vouch(ctx context.Context) error {
	c := d.poster.conn.collector
	body := c.witness.get()
	if body == nil {
		return d.allRefused()
	}
	r, err := d.poster.postBody(ctx, body)
	switch {
	case err != nil:
		return err
	case r.Err != nil:
		return r.Err
	case r.Class != "":
		return d.allRefused()
	}
	v, err := c.Format.Judge(r.Body, 1)
	if err != nil {
		return err
	}
	if len(v.Refused)+len(v.Busy)+v.Partial > 0 {
		return d.allRefused()
	}
	d.vouched = d.strange
	return nil
}

// allRefused is for a collector that refuses all that it is sent.
func (d *delivery) allRefused() error {
	if len(d.doubted) > 0 {
		return Trouble(d.doubted[0].said)
	}
	return Misfit(d.refuse[0].Reason, "it refuses whatever it is sent, so that records are held back rather than put aside: is it the right collector, and set up for these records?")
}

// confirm puts aside what is doubted, if it is refused again between two moments at
// which the collector takes something else.
func (d *delivery) confirm(ctx context.Context) error {
	if len(d.doubted) == 0 {
		return nil
	}
	if err := d.vouch(ctx); err != nil {
		return err
	}
	again := d.doubted
	d.doubted = nil
	for _, one := range again {
		if err := d.sendAlone(ctx, one.part); err != nil {
			return err
		}
	}
	if len(d.doubted) == 0 {
		return nil // it is well again
	}
	if err := d.vouch(ctx); err != nil {
		return err
	}
	for _, one := range d.doubted {
		d.add(one.part, 1, one.class, one.said)
	}
	d.doubted = nil
	return nil
}

// believe returns an error where nothing shows that the collector is well which has
// refused records.
func (d *delivery) believe(ctx context.Context) error {
	if len(d.refuse) == 0 || d.vouched > 0 && d.vouched == d.strange || d.taken > 0 && d.strange <= wire.MaxStrange {
		return nil
	}
	return d.vouch(ctx)
}
