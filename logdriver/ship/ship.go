package ship

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/dockline/dockline/logdriver/record"
)

// Stats counts what ship did, since the process began.
type Stats struct {
	Sent, SentBytes, Batches atomic.Uint64
	Acked                    atomic.Uint64 // records
	Resent                   atomic.Uint64 // records that were under way when a connection broke
	Failures                 atomic.Uint64 // connections that failed or broke
	Moved                    atomic.Uint64 // feeds handed from one collector to another
	LostBytes                atomic.Uint64 // evicted before they were read
	QuarantinedBytes         atomic.Uint64
	ReadErrors               atomic.Uint64
}

// Shipper ships any number of streams to any number of pools.
type Shipper struct {
	log   *slog.Logger
	Stats Stats

	ctx    context.Context // ends when the lanes shall
	cancel context.CancelFunc
	lanes  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	pools map[string]*pool
	feeds map[string]*feed // by stream id
}

// pool is a Pool in use.
type pool struct {
	id     string
	owner  *Shipper
	rank   func(string) []string
	lanes  map[string]*lane
	feeds  int // guarded by owner.mu
	cancel context.CancelFunc
}

// New returns a shipper without streams.
func New(log *slog.Logger) *Shipper {
	s := &Shipper{log: log, pools: map[string]*pool{}, feeds: map[string]*feed{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Add begins to ship a stream to the collector of the pool that key selects.
// For a stream that is shipped already, it only takes over what is known of it.
func (s *Shipper) Add(src Source, meta *Meta, p Pool, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.feeds[meta.Stream]; f != nil {
		f.meta.Store(meta)
		return nil
	}
	pl := s.poolLocked(p)
	f := &feed{
		src: src, pool: pl, log: s.log, stats: &s.Stats,
		join: record.Joiner{Max: maxRecord}, acked: src.Cursor(),
	}
	f.meta.Store(meta)
	for _, name := range pl.rank(key) {
		if l := pl.lanes[name]; l != nil {
			f.ranking = append(f.ranking, l)
		}
	}
	if len(f.ranking) == 0 {
		s.releaseLocked(pl)
		return fmt.Errorf("pool %s has no collector that takes records: all have weight 0", p.ID)
	}
	f.rewind()
	pl.feeds++
	s.feeds[meta.Stream] = f
	f.lane.Store(f.home())
	f.stop = src.Watch(f.notify)
	f.notify()
	return nil
}

func (s *Shipper) poolLocked(p Pool) *pool {
	if pl := s.pools[p.ID]; pl != nil {
		return pl
	}
	ctx, cancel := context.WithCancel(s.ctx)
	pl := &pool{id: p.ID, owner: s, rank: p.Rank, lanes: map[string]*lane{}, cancel: cancel}
	for _, c := range p.Collectors {
		pl.lanes[c.Name] = newLane(c, s.log, &s.Stats, pl.recheck)
	}
	for _, l := range pl.lanes {
		s.lanes.Go(func() { l.run(ctx) })
	}
	s.pools[p.ID] = pl
	return pl
}

// recheck has every lane look whether its feeds have a better place.
func (p *pool) recheck() {
	for _, l := range p.lanes {
		poke(l.turn)
	}
}

// retire ends the shipping of a stream that has ended and is acknowledged.
// A container that starts again may have made it live meanwhile: then it stays.
// gone is called if it does not.
func (s *Shipper) retire(f *feed, gone func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream := f.meta.Load().Stream
	if s.feeds[stream] != f {
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
	delete(s.feeds, stream)
	f.pool.feeds--
	s.releaseLocked(f.pool)
}

// releaseLocked ends a pool that nothing is shipped to.
func (s *Shipper) releaseLocked(p *pool) {
	if p.feeds == 0 && s.pools[p.id] == p {
		delete(s.pools, p.id)
		p.cancel()
	}
}

// CollectorStatus is what is known of one collector of one pool.
type CollectorStatus struct {
	Name    string
	Healthy bool // takes the streams that prefer it
	Streams int  // that go to it now
}

// Collectors returns the collectors in use. One that is in several pools is
// there once for each.
func (s *Shipper) Collectors() []CollectorStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	streams := map[*lane]int{}
	for _, f := range s.feeds {
		streams[f.lane.Load()]++
	}
	var all []CollectorStatus
	for _, p := range s.pools {
		for _, l := range p.lanes {
			all = append(all, CollectorStatus{l.name, l.healthy.Load(), streams[l]})
		}
	}
	return all
}

// Where returns the name of the collector that a stream's records go to now,
// "" where it is not shipped.
func (s *Shipper) Where(stream string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.feeds[stream]; f != nil {
		return f.lane.Load().name
	}
	return ""
}

// Len returns the number of streams that are being shipped.
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
		f.src.Release()
	}
}
