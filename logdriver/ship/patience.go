package ship

import (
	"time"

	"github.com/dockline/dockline/logdriver/process"
)

// openTime is how long a line may stay without an end, and without more of it,
// before what there is of it is sent; twice as long at most.
const openTime = 5 * time.Second

// patience is a timer that runs while a feed has a record that is not complete.
type patience struct {
	*time.Timer
	runs bool
	at   time.Time // when it fires
}

func newPatience() patience {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return patience{Timer: t}
}

// with sees to it that the timer fires when the feed may have waited long enough.
func (p *patience) with(f *feed) {
	_, line := f.join.Open()
	wait := openTime
	if f.proc != nil {
		if _, kept := f.proc.Open(); kept {
			wait, line = f.proc.Patience(), true
		}
	}
	if !line {
		return
	}
	if at := time.Now().Add(wait); !p.runs || at.Before(p.at) {
		p.runs, p.at = true, at
		p.Reset(wait)
	}
}

// refresh takes over what is to be done to the feed's records, when nothing is
// between two of them.
func (f *feed) refresh() {
	spec := f.meta.Load().Process
	if spec == f.spec && f.join.Max > 0 || f.unfinished() {
		return
	}
	f.spec, f.proc, f.join.Max = spec, spec.New(&f.stats.Process), maxRecord
	if spec != nil {
		f.join.Max = spec.MaxRecord
	}
	f.join.Budget = &f.pool.owner.open
	if f.proc != nil {
		f.proc.Between, f.proc.Budget = f.between, f.join.Budget
	}
	if f.processed == nil {
		f.processed = func(r *process.Record) {
			f.rec = Record{Offset: r.Offset, Time: r.Time, Stamped: r.Stamped, Stderr: r.Stderr, Cut: r.Cut, Level: r.Level, Line: r.Line, Fields: r.Fields}
			f.emit(&f.rec)
		}
	}
}

// pause reports whether the feed is over its rate, and then sees to it that it is
// read again when it is not.
func (f *feed) pause() bool {
	f.stopped, f.paused = false, false
	if f.proc == nil {
		return false
	}
	now := time.Now()
	wait := f.proc.Begin(now)
	if wait <= 0 {
		return false
	}
	f.paused = true
	if at := now.Add(wait); !f.resume.After(now) || at.Before(f.resume) {
		f.resume = at
		time.AfterFunc(wait, f.notify)
	}
	return true
}

// expire gives out what there is of lines and records that do not go on.
func (f *feed) expire(emit func(*Record)) {
	out, now := f.out(emit), time.Now()
	if now.Sub(f.looked) >= openTime {
		f.looked = now
		f.join.ExpireIdle(out)
	}
	if f.proc != nil {
		f.proc.ExpireIdle(now, f.processed)
	}
	f.mark()
}
