package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	syncOff    = "off"
	syncPrefix = "interval="
	minSync    = 100 * time.Millisecond
	maxSync    = time.Hour
	// slowSync is how long a sync may take before it is called slow.
	slowSync = time.Second
	// syncsAtOnce is how many streams are synced at a time: one commit of the
	// file system's journal serves all that wait for it.
	syncsAtOnce = 16
)

// ParseSync reads a policy of syncing, off or interval=DURATION, of which it
// returns the duration, 0 for off. Empty is the default.
func ParseSync(text string, def time.Duration) (time.Duration, error) {
	value, ok := strings.CutPrefix(text, syncPrefix)
	switch {
	case text == "":
		return def, nil
	case text == syncOff:
		return 0, nil
	case !ok:
		return def, errors.New("neither off nor interval=DURATION, such as interval=1s")
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < minSync || d > maxSync {
		return def, fmt.Errorf("the interval is not a duration from %v to %v", minSync, maxSync)
	}
	return d, nil
}

// Syncs counts what was synced since this process began.
type Syncs struct {
	Done, Slow, Failed uint64
	Took               time.Duration // altogether
}

type syncs struct {
	done, slow, failed atomic.Uint64
	took               atomic.Int64
	behind             atomic.Bool   // the last one was slow or failed
	wanted             chan struct{} // has a value when a stream that is synced began
}

// Syncs returns the counters.
func (s *Spool) Syncs() Syncs {
	return Syncs{s.syncs.done.Load(), s.syncs.slow.Load(), s.syncs.failed.Load(), time.Duration(s.syncs.took.Load())}
}

// Run does what has to be done from time to time, until ctx ends.
func (s *Spool) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { s.runRelease(ctx) })
	both.Go(func() { s.runSync(ctx) })
	both.Wait()
}

// runSync syncs every stream at least as often as it wants. What is written
// goes on meanwhile: no lock is held over a sync.
func (s *Spool) runSync(ctx context.Context) {
	for {
		every := s.syncEvery()
		if every == 0 {
			select {
			case <-ctx.Done():
				return
			case <-s.syncs.wanted:
				continue
			}
		}
		select {
		case <-ctx.Done():
			s.syncDue(0, time.Now()) // what is there at an orderly end is safe
			return
		case <-s.syncs.wanted:
		case <-time.After(every):
		}
		s.syncDue(every, time.Now())
	}
}

// syncEvery returns the shortest interval that a stream has, 0 for none.
func (s *Spool) syncEvery() (every time.Duration) {
	for _, st := range s.Streams() {
		st.mu.Lock()
		if d := st.header.Sync; d > 0 && (every == 0 || d < every) {
			every = d
		}
		st.mu.Unlock()
	}
	return every
}

// syncDue syncs the streams that would wait too long if the next turn came
// after every; with 0, all.
func (s *Spool) syncDue(every time.Duration, now time.Time) {
	var due sync.WaitGroup
	slots := make(chan struct{}, syncsAtOnce)
	for _, st := range s.Streams() {
		st.mu.Lock()
		want := st.header.Sync > 0 && (every == 0 || now.Add(every).After(st.syncedAt.Add(st.header.Sync)))
		if want {
			st.syncedAt = now
		}
		st.mu.Unlock()
		if !want {
			continue
		}
		slots <- struct{}{}
		due.Go(func() {
			defer func() { <-slots }()
			s.syncOne(st)
		})
	}
	due.Wait()
}

func (s *Spool) syncOne(st *Stream) {
	began := time.Now()
	did, err := st.syncAll()
	if !did && err == nil {
		return
	}
	took := time.Since(began)
	s.syncs.done.Add(1)
	s.syncs.took.Add(int64(took))
	bad := err != nil || took >= slowSync
	if err != nil {
		s.syncs.failed.Add(1)
	} else if bad {
		s.syncs.slow.Add(1)
	}
	if s.syncs.behind.Swap(bad) != bad {
		s.log.Warn("how the spool is synced has changed", "well", !bad, "took", took.Round(time.Millisecond), "container", st.Name(), "stream", st.id, "err", err)
	}
}

// syncAll is Sync with the cursors, before which nothing is deleted: so a cursor
// that a power cut sets back never stands before a gap that was no loss.
func (st *Stream) syncAll() (did bool, err error) {
	did, err = st.sync()
	if err != nil {
		return did, err
	}
	type position struct {
		c      *cursor
		offset uint64
	}
	st.mu.Lock()
	var moved []position
	for _, c := range st.cursors {
		if c.durable != c.offset {
			moved = append(moved, position{c, c.offset})
		}
	}
	st.mu.Unlock()
	for _, m := range moved {
		path := m.c.where()
		err := st.sp.cfg.disk.datasync(path)
		if errors.Is(err, os.ErrNotExist) && path != m.c.where() {
			continue // it was renamed meanwhile
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return true, fmt.Errorf("sync a cursor: %w", err)
		}
		st.mu.Lock()
		m.c.durable = m.offset
		st.mu.Unlock()
	}
	if len(moved) > 0 {
		st.trim() // what waited for the cursors
	}
	return did || len(moved) > 0, nil
}

// deletableLocked returns the offset before which everything may be deleted that
// docker logs does not need.
func (st *Stream) deletableLocked() uint64 {
	upTo := st.ackedLocked()
	if st.header.Sync > 0 {
		for _, c := range st.cursors {
			if c.wants() {
				upTo = min(upTo, c.durable)
			}
		}
	}
	return upTo
}

// datasync is sync for a file's content.
func (d disk) datasync(path string) error {
	if err := d.check("sync"); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = unix.Fdatasync(int(f.Fd()))
	for errors.Is(err, unix.EINTR) {
		err = unix.Fdatasync(int(f.Fd()))
	}
	return d.did(change{op: "sync", path: path}, errors.Join(err, f.Close()))
}

// syncPaths lists what Sync has to sync for some segments, in order.
func (st *Stream) syncPaths(dirty []segment, drops []drop) (files, dirs []string) {
	files = []string{streamFile, indexFile}
	for _, g := range dirty {
		files = append(files, g.name())
	}
	for _, d := range drops {
		files = append(files, d.name())
	}
	for i := range files {
		files[i] = filepath.Join(st.dir, files[i])
	}
	return files, []string{st.dir, filepath.Dir(st.dir)}
}
