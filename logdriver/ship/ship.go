package ship

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/record"
)

// Stats counts what ship did, since the process began.
type Stats struct {
	Sent, SentBytes, Batches atomic.Uint64
	Acked                    atomic.Uint64 // records
	Resent                   atomic.Uint64 // records that were under way when a connection broke
	Refused                  atomic.Uint64 // records that collectors will never take
	Divided                  atomic.Uint64 // records that were sent in pieces, for they were too long for a collector
	Failures                 atomic.Uint64 // connections that failed or broke
	Moved                    atomic.Uint64 // feeds handed from one collector to another
	Pushbacks                atomic.Uint64 // times that a collector was relieved of keys
	LostBytes                atomic.Uint64 // evicted before they were read
	QuarantinedBytes         atomic.Uint64
	ReadErrors               atomic.Uint64
	Process                  process.Stats
}

// Shipper ships any number of streams to any number of pools.
type Shipper struct {
	log   *slog.Logger
	Stats Stats
	// Ended is called, if it is set before the first Add, when nothing is shipped
	// to a pool any more, under the shipper's lock: it calls no method of it.
	Ended func(pool string)
	// Retired is called in the same way when a stream is no longer shipped to a
	// pool: because it has ended and is acknowledged, or was removed.
	Retired func(stream, pool string)
	// Held is told, if it is set before the first Add, what a collector has
	// acknowledged, before the cursor moves on. It may take a moment, and is called
	// by several goroutines.
	Held func(m *Meta, pool, collector string, h Held)
	// Aside is given, if it is set before the first Add, what collectors refuse.
	Aside PutAside

	open   record.Budget // of all feeds
	counts sync.Map      // *Counts by the name of a collector: they go on when it comes back

	ctx    context.Context // ends when the lanes shall
	cancel context.CancelFunc
	lanes  sync.WaitGroup
	ticks  bool // pools look after themselves; otherwise a test does

	mu    sync.Mutex // guards what follows
	pools map[string]*pool
	feeds map[feedID]*feed
}

// feedID is a stream on its way to a pool.
type feedID struct{ stream, pool string }

// maxOpen bounds the bytes of records that are not complete, of all streams
// together. Beyond it, they are given out in pieces.
const maxOpen = 64 << 20

// New returns a shipper without streams.
func New(log *slog.Logger) *Shipper {
	s := &Shipper{log: log, open: record.Budget{Most: maxOpen}, pools: map[string]*pool{}, feeds: map[feedID]*feed{}, ticks: true}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Add begins to ship a stream to the collectors of the pool that key selects.
// For a stream that is shipped to that pool already, it only takes over what is
// known of it, and from which rate on its key is split.
func (s *Shipper) Add(src Source, meta *Meta, p Pool, key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := feedID{meta.Stream, p.ID}
	if f := s.feeds[id]; f != nil {
		f.meta.Store(meta)
		f.pool.splitAbove(f, key.SplitAbove)
		return
	}
	pl := s.pools[p.ID]
	if pl == nil {
		pl = s.newPool(p)
		s.pools[p.ID] = pl
	}
	f := &feed{
		id: id, src: src, pool: pl, key: key, log: s.log, stats: &s.Stats, acked: src.Cursor(),
	}
	f.top = f.acked
	f.meta.Store(meta)
	f.rewind()
	if key.PerRecord {
		f.units = newUnits(f.acked)
	}
	s.feeds[id] = f
	pl.add(f)
	f.stop = src.Watch(f.notify)
	f.notify()
}

// Update changes the collectors of a pool and their order, for the streams that
// are shipped to it now. What is under way to a collector that is no longer
// there, or takes no more, is finished first; no other stream moves.
func (s *Shipper) Update(p Pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pl := s.pools[p.ID]
	if pl == nil {
		return
	}
	pl.update(p)
	for _, f := range s.feeds {
		if f.pool == pl {
			f.notify() // one that is quiet moves too
		}
	}
}

// retire ends the shipping of a stream that has ended and is acknowledged.
// A container that starts again may have made it live meanwhile: then it stays.
// gone is called if it does not.
func (s *Shipper) retire(f *feed, gone func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds[f.id] != f {
		return
	}
	f.stop() // from here on nothing queues it
	if f.src.Live() || f.queued.Load() {
		f.stop = f.src.Watch(f.notify)
		f.notify()
		return
	}
	f.over.Store(true)
	gone()
	s.removeLocked(f)
}

func (s *Shipper) removeLocked(f *feed) {
	delete(s.feeds, f.id)
	if s.Retired != nil {
		s.Retired(f.id.stream, f.id.pool)
	}
	if f.pool.remove(f) && s.pools[f.pool.id] == f.pool {
		delete(s.pools, f.pool.id)
		if s.Ended != nil {
			s.Ended(f.pool.id)
		}
	}
}

// EndUnused calls Ended if nothing is shipped to the pool.
func (s *Shipper) EndUnused(pool string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pools[pool] == nil && s.Ended != nil {
		s.Ended(pool)
	}
}

// End ends the shipping of a stream whose source has ended before all of it was
// read: what was sent is waited for, what was not is let go.
func (s *Shipper) End(stream, pool string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.feeds[feedID{stream, pool}]; f != nil {
		f.closing.Store(true)
		f.notify()
		f.pool.callSorter()
	}
}

// Remove ends the shipping of a stream to a pool at once. What is under way may
// arrive; its acknowledgement counts for nothing.
func (s *Shipper) Remove(stream, pool string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[feedID{stream, pool}]
	if f == nil {
		return
	}
	f.stop()
	f.over.Store(true)
	f.queued.Store(true)
	f.lane.Load().push(f) // which lets go of it
	f.pool.callSorter()
	s.removeLocked(f)
}

// Has reports whether a stream is shipped to a pool.
func (s *Shipper) Has(stream, pool string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.feeds[feedID{stream, pool}] != nil
}

// CollectorStatus is what is known of one collector of one pool.
type CollectorStatus struct {
	Pool    string // its id
	Name    string
	Healthy bool          // takes the streams that prefer it
	Trouble *Trouble      // nil: none
	Leaving bool          // in the pool no longer, but not finished with
	Streams int           // that go to it now
	Shed    float64       // part of all keys that do not go to it because it pushes back
	AckTime time.Duration // that batches took lately; 0: none was acknowledged
}

// Counts counts what became of one collector since the process began.
type Counts struct {
	Acked    atomic.Uint64 // records
	Failures atomic.Uint64 // connections that failed or broke

	used atomic.Int64 // when it was known to be in use last, nanoseconds since 1970
}

func (s *Shipper) countsOf(collector string) *Counts {
	c, _ := s.counts.LoadOrStore(collector, new(Counts))
	counts := c.(*Counts)
	counts.used.Store(time.Now().UnixNano())
	return counts
}

// Counts returns the counts of all collectors that were in use within the time
// given, by their names: one that gets records now and then is in none of
// Collectors in between.
func (s *Shipper) Counts(within time.Duration) map[string]*Counts {
	all := map[string]*Counts{}
	s.counts.Range(func(name, c any) bool {
		if counts := c.(*Counts); name != "" && time.Since(time.Unix(0, counts.used.Load())) <= within {
			all[name.(string)] = counts
		}
		return true
	})
	return all
}

// Collectors returns the collectors in use. One that is in several pools is
// there once for each.
func (s *Shipper) Collectors() []CollectorStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []CollectorStatus
	for _, p := range s.pools {
		all = append(all, p.status()...)
	}
	return all
}

// Place is where the records of a stream go now.
type Place struct {
	Stream, Pool string
	Collector    string  // its name; "" where there is none that takes them, or each record has its own
	PerRecord    bool    // each record has its own
	Split        int     // over how many it is spread in time slices; 1: not at all
	Rate         float64 // bytes per second, lately
}

// Places returns where all streams go, in no order.
func (s *Shipper) Places() []Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Place, 0, len(s.feeds))
	for id, f := range s.feeds {
		f.pool.mu.Lock()
		all = append(all, Place{id.stream, id.pool, f.lane.Load().name, f.key.PerRecord, f.split, f.rate})
		f.pool.mu.Unlock()
	}
	return all
}

// Len returns the number of streams that are being shipped, once for each pool.
func (s *Shipper) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.feeds)
}

// Close stops shipping: acknowledgements that are on their way are waited for,
// for a moment, so that little has to be sent again. Cursors are on the disk.
func (s *Shipper) Close() {
	s.cancel()
	s.lanes.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		f.stop()
		f.note()
		f.src.Release()
	}
}
