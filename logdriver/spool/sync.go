package spool

import (
	"errors"
	"fmt"
	"os"
)

// Sync returns when all that the stream holds now would survive a power cut,
// with what is needed to deliver it. Cursors are not part of that: one that is
// behind costs duplicates.
//
// Names come after what they name, so that the directory is synced last.
func (st *Stream) Sync() error {
	_, err := st.sync()
	return err
}

// sync reports whether there was anything to sync.
func (st *Stream) sync() (did bool, err error) {
	st.mu.Lock()
	var drops []drop
	for _, d := range st.drops {
		if d.synced != d.to {
			drops = append(drops, d)
		}
	}
	var dirty []segment
	for _, g := range st.segs {
		if g.synced < g.size {
			dirty = append(dirty, g)
		}
	}
	gone := st.gone
	st.mu.Unlock()
	if len(dirty)+len(drops) == 0 || gone {
		return false, nil
	}
	files, dirs := st.syncPaths(dirty, drops)
	for _, p := range files {
		err := st.sp.cfg.disk.datasync(p)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // evicted meanwhile
			return true, fmt.Errorf("sync a stream: %w", err)
		}
	}
	for _, p := range dirs {
		if err := st.sp.cfg.disk.sync(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return true, fmt.Errorf("sync a stream: %w", err)
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, g := range dirty {
		for i := range st.segs {
			if st.segs[i].offset == g.offset {
				st.segs[i].synced = max(st.segs[i].synced, g.size)
			}
		}
	}
	for _, d := range drops {
		for i := range st.drops {
			if st.drops[i].from == d.from {
				st.drops[i].synced = d.to
			}
		}
	}
	return true, nil
}
