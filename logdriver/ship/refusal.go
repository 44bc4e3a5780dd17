package ship

import (
	"errors"
	"time"
)

// Refusal is a record, or several, that a collector will never take.
type Refusal struct {
	ID        string // of the record, or of the first of several: "stream-offset"
	Container string // name of the container
	Records   int    // how many it stands for
	Class     string // the kind of reason, one of few: "invalid", "too-large", "partial"
	Reason    string // what the collector said
	Encoded   []byte // as it was sent, or as much of it as is worth keeping
}

// Refuser is a Conn that goes on when its collector refuses a record for ever.
type Refuser interface {
	// Refused returns the records that were refused in batches that Wait has
	// told as acknowledged, each once. It is called by the goroutine of Wait.
	Refused() []Refusal
}

// PutAside keeps what a collector refused, before the cursor moves on. It is
// called by several goroutines and may take a moment.
type PutAside func(pool, collector string, refused []Refusal)

// refused returns what a connection's collector has refused.
func refused(c Conn) []Refusal {
	if r, ok := c.(Refuser); ok {
		return r.Refused()
	}
	return nil
}

// putAside is for what the lane's collector has refused. It returns how many
// records that is.
func (l *lane) putAside(refused []Refusal) (records uint64) {
	if len(refused) == 0 {
		return 0
	}
	for _, r := range refused {
		records += uint64(r.Records)
	}
	l.stats.Refused.Add(records)
	first := refused[0]
	l.aside += len(refused)
	if _, due := l.refuses.Due(time.Now()); due {
		l.log.Error("collector refuses records for ever; they are put aside (docker dockline log poison), and what follows goes on",
			"refusals", l.aside, "record", first.ID, "container", first.Container, "why", first.Reason, "said_again_after", l.refuses.Pause())
		l.aside = 0
	}
	if keep := l.pool.owner.Aside; keep != nil {
		keep(l.pool.id, l.name, refused)
	}
	return records
}

// maxAsked bounds for how long a collector may ask us to stay away.
const maxAsked = 5 * time.Minute

// asked returns for how long an error asks to wait before the collector is tried
// again, as HTTP's Retry-After does.
func asked(err error) time.Duration {
	var says interface{ RetryAfter() time.Duration }
	if !errors.As(err, &says) {
		return 0
	}
	return min(says.RetryAfter(), maxAsked)
}
