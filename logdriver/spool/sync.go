package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Sync returns when all that the stream holds now would survive a power cut,
// with what is needed to deliver it. Cursors are not part of that: one that is
// behind costs duplicates.
//
// Names come after what they name, so that the directory is synced last.
func (st *Stream) Sync() error {
	st.mu.Lock()
	var dirty []segment
	for _, g := range st.segs {
		if g.synced < g.size {
			dirty = append(dirty, g)
		}
	}
	gone := st.gone
	st.mu.Unlock()
	if len(dirty) == 0 || gone {
		return nil
	}
	paths := []string{streamFile, indexFile}
	for _, g := range dirty {
		paths = append(paths, g.name())
	}
	for _, p := range append(paths, ".", "..") {
		err := st.sp.cfg.disk.sync(filepath.Join(st.dir, p))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // evicted meanwhile
			return fmt.Errorf("sync a stream: %w", err)
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
	return nil
}
