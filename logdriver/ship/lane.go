package ship

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/dockline/dockline/internal/pluginlog"
)

const (
	dialTimeout = 10 * time.Second
	minBackOff  = 100 * time.Millisecond
	maxBackOff  = 10 * time.Second
	// holdTime is how long a collector that was down has to be connected again
	// before the streams that prefer it return. It doubles, up to maxHold, each
	// time that they returned in vain: there are collectors that take
	// connections and acknowledge nothing.
	holdTime = 3 * time.Second
	maxHold  = 5 * time.Minute
)

// lane is the way to one collector: one goroutine that owns its connection,
// its batch and the reading side of the feeds that are assigned to it.
type lane struct {
	name    string
	id      string // of the collector
	sink    Sink
	pool    *pool
	log     *slog.Logger
	stats   *Stats
	counts  *Counts
	healthy atomic.Bool
	trouble atomic.Pointer[Trouble] // nil: none since something was acknowledged
	probing atomic.Pointer[feed]    // the one that it gets though it is not healthy, to see whether it is
	trial   atomic.Bool             // it is to get some records of a sorter's, for the same reason
	level   atomic.Uint32           // of allShed parts of its keys, how many it sheds; written with pool.mu held
	gauge   gauge
	end     context.CancelFunc

	load    atomic.Int64 // parcels that it has, in the queue or under way
	leaving atomic.Bool  // its collector is in the pool no longer
	bin     *parcel      // the sorter's: what is being put together for it

	mu      sync.Mutex // guards queue, parcels and over
	queue   []*feed
	parcels []*parcel
	over    bool          // nobody works on it any more
	wake    chan struct{} // has a value when there is more in a queue
	turn    chan struct{} // has a value when the health of a collector of the pool has changed

	pressure pressure // guarded by pool.mu

	// What follows belongs to the lane's goroutine.
	feeds map[*feed]struct{} // that it has seen and that are assigned to it
	buf   []byte             // the window
	batch batch
	sent  []batch // under way, oldest first, without their bytes
	hold  time.Duration
	fails pluginlog.Seldom

	refuses pluginlog.Seldom
	aside   int // refusals of which nothing was said yet
}

// batch is what is sent and acknowledged as one.
type batch struct {
	at      int64 // when it was sent, as gauge has it
	bytes   []byte
	records int
	marks   []mark
}

// mark says how far a feed is acknowledged with the batch, or which parcel of it.
type mark struct {
	feed   *feed
	safe   uint64
	held   Held    // of its records
	parcel *parcel // nil where the feed is the lane's
}

func newLane(c Collector, log *slog.Logger, stats *Stats, p *pool) *lane {
	l := &lane{
		name: c.Name, id: c.ID, sink: c.Sink, pool: p, log: log.With("collector", c.Name), stats: stats, counts: new(Counts),
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), feeds: map[*feed]struct{}{}, buf: make([]byte, windowBytes), hold: holdTime,
	}
	l.healthy.Store(true)
	l.gauge.born = time.Now()
	l.pressure.hold = shedHold
	return l
}

// push adds a feed to the queue and wakes the lane. A feed that was moved at
// that moment may come to a lane that is over: it goes on to its own.
func (l *lane) push(f *feed) {
	l.mu.Lock()
	over := l.over
	if !over {
		l.queue = append(l.queue, f)
	}
	l.mu.Unlock()
	if !over {
		poke(l.wake)
	} else if owner := f.lane.Load(); owner != l {
		owner.push(f)
	}
}

// finish lets go of what there still is and sends on what was moved while it
// stood in the queue.
func (l *lane) finish() {
	l.counts.used.Store(time.Now().UnixNano())
	for f := range l.feeds {
		f.letGo()
	}
	l.takeBack()
	l.mu.Lock()
	rest, parcels := l.queue, l.parcels
	l.queue, l.parcels, l.over = nil, nil, true
	l.mu.Unlock()
	for _, f := range rest {
		l.push(f)
	}
	for _, p := range parcels { // given to it just when it was to end
		l.pool.sorter.weigh(p, -1)
		l.pool.sorter.strayed(p)
	}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// pop takes the next feed that this lane is to work on, nil if there is none.
func (l *lane) pop() *feed {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.mu.Unlock()
			return nil
		}
		f := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.mu.Unlock()
		if f.over.Load() {
			l.drop(f)
			continue
		}
		if owner := f.lane.Load(); owner != l {
			owner.push(f) // it was handed on while it stood here
			continue
		}
		f.queued.Store(false)
		l.feeds[f] = struct{}{}
		return f
	}
}

// drop is for a feed that is shipped no longer.
func (l *lane) drop(f *feed) {
	if _, ok := l.feeds[f]; ok {
		delete(l.feeds, f)
		f.letGo()
	}
}

// wanted reports whether a feed has something to send. Those that have not
// are done with here: no connection is needed for that. Nor is one for those
// that belong elsewhere.
func (l *lane) wanted() bool {
	if l.hasParcels() {
		return true
	}
	for {
		f := l.pop()
		if f == nil {
			return false
		}
		if l.handOn(f) {
			continue
		}
		if f.src.Pending(f.read) {
			f.notify()
			return true
		}
		l.rest(f)
	}
}

// rest is for a feed that has nothing to read now.
func (l *lane) rest(f *feed) {
	f.settle()
	if f.busy() && !f.ended() {
		return // its source stays open: as long as it is busy more comes at once; see settled
	}
	f.src.Release()
	if !f.src.Live() {
		f.pool.owner.retire(f, func() {
			delete(l.feeds, f)
			f.letGo()
		})
	}
}

// settled is for a feed of which something was acknowledged.
func (l *lane) settled(f *feed) {
	if f.ended() {
		f.notify()
		return
	}
	if f.busy() || f.over.Load() {
		return
	}
	f.settle()
	if l.handOn(f) {
		return
	}
	if f.held || !f.src.Live() {
		f.notify() // it was to move and no longer is, or this was the end of it
	}
	if !f.queued.Load() {
		f.src.Release()
	}
}

// unreadable is for a feed that could not be read; it is tried again.
func (l *lane) unreadable(f *feed, err error) {
	l.stats.ReadErrors.Add(1)
	if _, due := f.cannotRead.Due(time.Now()); due {
		l.log.Error("a stream cannot be read; it is tried again, and nothing behind that place is delivered meanwhile", "stream", f.meta.Load().Stream, "container", f.meta.Load().ContainerName, "offset", f.read, "err", err)
	}
	f.src.Release()
	time.AfterFunc(readRetry, f.notify)
}

// run ships until ctx ends. It never gives up on a collector: while it cannot
// be reached, its feeds go to the next in their ranking if that one can.
func (l *lane) run(ctx context.Context) {
	defer l.finish()
	if _, none := l.sink.(nobody); none {
		l.wait(ctx)
		return
	}
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = minBackOff, maxBackOff
	for l.idle(ctx); ctx.Err() == nil; l.idle(ctx) {
		progress, err := l.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		quiet := progress && len(l.sent) == 0 && asked(err) == 0 // nothing waited for what broke
		l.rewind()
		busy := errors.Is(err, ErrBusy)
		if busy {
			l.gauge.refused.Add(1)
		}
		if progress {
			retry.Reset()
		} else if !busy {
			l.setHealthy(false)
		}
		l.rehome()
		pause := max(retry.NextBackOff(), asked(err))
		l.stats.Failures.Add(1)
		l.counts.Failures.Add(1)
		if quiet {
			l.log.Debug("connection to collector ended with nothing under way", "err", err)
		} else {
			l.inTrouble(err)
			l.sayTrouble(err, pause)
		}
		l.gauge.block(busy)
		l.pause(ctx, pause)
		l.gauge.block(false)
	}
}

// wait keeps feeds that no collector takes until one does.
func (l *lane) wait(ctx context.Context) {
	for ctx.Err() == nil {
		for f := l.pop(); f != nil; f = l.pop() {
			if !l.handOn(f) && !f.src.Pending(f.read) {
				l.rest(f)
			}
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-l.turn:
			l.rehome()
		}
	}
}

// idle waits until there is a reason to be connected: something to send, or
// a collector that was down and may be back.
func (l *lane) idle(ctx context.Context) {
	for ctx.Err() == nil && !l.wanted() && l.healthy.Load() {
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-l.turn:
			l.rehome()
		}
	}
}

// pause waits for d, handing on feeds whose best place changes meanwhile.
func (l *lane) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case <-l.turn:
			l.rehome()
		}
	}
}

// connect dials and works on the connection until it breaks or ctx ends. It
// reports whether the collector was of use: it acknowledged something, or the
// connection was quiet and held for a while.
func (l *lane) connect(ctx context.Context) (progress bool, err error) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := l.sink.Dial(dctx)
	cancel()
	if err != nil {
		return false, err
	}
	l.log.Debug("connected to collector")
	began := time.Now()
	s := newSession(l, conn)
	err = s.run(ctx)
	l.probing.Store(nil)
	l.trial.Store(false)
	l.gauge.block(false)
	l.gauge.oldest.Store(0)
	if s.progress {
		l.hold = holdTime
	} else if len(l.sent) > 0 {
		l.hold = min(2*l.hold, maxHold)
	}
	if time.Since(began) >= calmAfter {
		l.fails = pluginlog.Seldom{}
	}
	return s.progress || len(l.sent) == 0 && time.Since(began) >= holdTime, err
}

// rewind forgets what was not acknowledged; it will be read from the spool again.
func (l *lane) rewind() {
	l.stats.Resent.Add(l.unacked())
	l.takeBack()
	l.sent = nil
	l.batch.reset()
	for f := range l.feeds {
		f.rewind()
		f.src.Release()
		f.notify()
	}
}

func (l *lane) unacked() (records uint64) {
	for _, b := range l.sent {
		records += uint64(b.records)
	}
	return records
}

// rehome hands on every feed that has a better place and nothing under way.
// Those with something under way follow when it is acknowledged, see settled.
func (l *lane) rehome() {
	for f := range l.feeds {
		l.handOn(f)
	}
	for n := l.queued(); n > 0; n-- { // those that were never worked on
		if f := l.pop(); f != nil && !l.handOn(f) {
			f.notify()
		}
	}
}

func (l *lane) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// handOn gives the feed to the lane that it belongs to, if that is another one
// and nothing of it is under way here. It reports whether it did.
func (l *lane) handOn(f *feed) bool {
	if f.busy() || f.home() == l {
		return false
	}
	f.rewind()
	f.src.Release()
	f.tmpl = nil
	delete(l.feeds, f)
	l.stats.Moved.Add(1)
	l.pool.move(f)
	f.notify()
	return true
}

// takes reports whether the feed may go there.
func (l *lane) takes(f *feed) bool { return l.healthy.Load() || l.probing.Load() == f }

func (l *lane) setHealthy(ok bool) {
	if l.healthy.Swap(ok) != ok {
		if ok {
			l.log.Info("collector is back")
			l.gauge.ackTime.Store(0) // what was is not what will be
			l.trouble.Store(nil)
		} else {
			l.log.Warn("collector is taken for down")
		}
		l.pool.recheck()
	}
}

func (b *batch) reset() {
	b.bytes, b.records, b.marks = b.bytes[:0], 0, nil
}
