package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// recover reads the stream's directory after a start.
func (st *Stream) recover() error {
	entries, err := os.ReadDir(st.dir)
	if err != nil {
		return fmt.Errorf("list the stream: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			_ = st.sp.cfg.disk.remove(filepath.Join(st.dir, e.Name())) // never got its name
			continue
		}
		base := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		switch filepath.Ext(e.Name()) {
		case segmentExt:
			err = st.recoverSegment(e, base)
		case attachExt:
			err = st.recoverSession(e.Name(), base)
		case jumpExt:
			st.recoverJump(base)
		case dropExt:
			err = st.recoverDrop(e.Name(), base)
		case cursorExt:
			st.cursors[base] = st.sp.loadCursor(filepath.Join(st.dir, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	sort.Slice(st.segs, func(i, j int) bool { return st.segs[i].offset < st.segs[j].offset })
	places, err := st.loadIndex()
	if err != nil {
		return err
	}
	for i := range st.segs {
		st.segs[i].first, st.segs[i].known = places[st.segs[i].offset]
	}
	for i, g := range st.segs {
		st.end, st.writer = g.end(), g.session
		st.stamps = append(st.stamps, stamp{g.offset, past(g.wrote)}) // which ends when more is written
		if i > 0 && g.offset < st.segs[i-1].end() {
			st.log().Error("two segments overlap; the second is read from the end of the first", "first", st.segs[i-1].name(), "second", g.name())
		}
	}
	st.recoverEnd()
	st.forgetDropsLocked()
	st.recountLocked()
	return nil
}

// recoverEnd finds out which offsets were given out behind the last segment.
func (st *Stream) recoverEnd() {
	sort.Slice(st.drops, func(i, j int) bool { return st.drops[i].from < st.drops[j].from })
	for _, d := range st.drops {
		if d.to > st.end || len(st.segs) == 0 {
			st.end, st.writer = d.to, d.session
		}
	}
	for _, c := range st.cursors {
		if c.torn {
			c.offset = st.startLocked()
		}
		// After a power cut, files may be shorter than what was acknowledged;
		// an offset is never used for two different bytes.
		st.end = max(st.end, c.offset)
		for _, r := range c.beyond {
			st.end = max(st.end, r.To)
		}
	}
	for _, j := range st.jumps {
		st.end = max(st.end, j.to)
	}
}

// odd reports a file that is none of ours. It is left alone.
func (st *Stream) odd(name string) {
	st.log().Warn("a file in the spool is none of its own and is left alone", "file", name)
}

func (st *Stream) recoverSegment(e os.DirEntry, base string) error {
	o, n, ok := parsePair(base, 32)
	if !ok {
		st.odd(e.Name())
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return fmt.Errorf("look at segment %s: %w", e.Name(), err)
	}
	if info.Size() == 0 {
		_ = st.sp.cfg.disk.remove(filepath.Join(st.dir, e.Name())) // made, and killed before its first byte
		return nil
	}
	st.segs = append(st.segs, segment{offset: o, session: uint32(n), size: info.Size(), wrote: info.ModTime()})
	st.last = max(st.last, uint32(n))
	st.sp.used.Add(info.Size() + overhead)
	return nil
}

func (st *Stream) recoverSession(name, base string) error {
	_, n, ok := parsePair("0-"+base, 32)
	if !ok {
		st.odd(name)
		return nil
	}
	fifo, err := os.ReadFile(filepath.Join(st.dir, name))
	if err != nil {
		return fmt.Errorf("read session %s: %w", name, err)
	}
	st.sessions[uint32(n)] = &Session{st: st, n: uint32(n), fifo: string(fifo)}
	st.sp.live.Add(1)
	st.last = max(st.last, uint32(n))
	return nil
}
