package spool

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrEnded means that the session was detached.
var ErrEnded = errors.New("session has ended")

// BusyError means that an older session of the stream is still attached: it has
// to be drained and detached first, so that what it holds comes first.
type BusyError struct{ Other *Session }

func (e *BusyError) Error() string { return "an older session is attached: " + e.Other.fifo }

// Session is the attachment of one FIFO to a stream, from a StartLogging to
// its StopLogging or to the end of the engine that made the FIFO. What one
// session wrote is one run of whole frames, but for its very end.
type Session struct {
	st   *Stream
	n    uint32
	fifo string
}

// FIFO returns the path of the pipe that the session reads.
func (se *Session) FIFO() string { return se.fifo }

// Stream returns the stream that the session writes.
func (se *Session) Stream() *Stream { return se.st }

func (se *Session) path() string {
	return filepath.Join(se.st.dir, fmt.Sprintf("%08x%s", se.n, attachExt))
}

// errGone means that the stream was deleted while somebody still had it.
var errGone = errors.New("stream was deleted")

func (st *Stream) attach(p Params, fifo string) (se *Session, created bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone {
		return nil, false, errGone
	}
	for _, se := range st.sessions {
		if se.fifo == fifo {
			return se, false, nil
		}
	}
	for _, route := range p.Routes {
		if err := st.routeLocked(route); err != nil {
			return nil, false, err
		}
	}
	if err := st.refreshLocked(p); err != nil {
		return nil, false, err
	}
	se = &Session{st: st, n: st.last + 1, fifo: fifo}
	if err := st.sp.cfg.disk.replace(se.path(), []byte(fifo)); err != nil {
		return nil, false, fmt.Errorf("attach a session: %w", err)
	}
	st.last = se.n
	st.recountLocked()
	if p.Sync > 0 {
		select {
		case st.sp.syncs.wanted <- struct{}{}:
		default:
		}
	}
	st.sessions[se.n] = se
	st.sp.live.Add(1)
	return se, true, nil
}

// refreshLocked keeps what is known of the container as it was when it last
// started: it may have been renamed.
func (st *Stream) refreshLocked(p Params) error {
	h := st.header
	h.Info, h.KeepBytes, h.OnFull, h.OfRoutes, h.Sync = p.Info, p.KeepBytes, p.OnFull, p.OfRoutes, p.Sync
	if bytes.Equal(st.header.Info, h.Info) && st.header.KeepBytes == h.KeepBytes && st.header.OnFull == h.OnFull && maps.Equal(st.header.OfRoutes, h.OfRoutes) && st.header.Sync == h.Sync {
		return nil
	}
	if err := st.writeHeader(h); err != nil {
		return err
	}
	st.header = h
	st.named()
	return nil
}

// Sessions returns the attached sessions, in the order of their beginning.
func (st *Stream) Sessions() []*Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	var all []*Session
	for n := uint32(1); n <= st.last && len(all) < len(st.sessions); n++ {
		if se := st.sessions[n]; se != nil {
			all = append(all, se)
		}
	}
	return all
}

// Detach ends the session: its FIFO is empty and nothing will be read from it
// again. A stream that is left with nothing is deleted. Detaching twice is fine.
func (se *Session) Detach() error {
	st := se.st
	st.wmu.Lock()
	if st.writer == se.n {
		st.endDrop()
	}
	st.mu.Lock()
	_, attached := st.sessions[se.n]
	err := st.sp.cfg.disk.remove(se.path())
	if err == nil && attached {
		delete(st.sessions, se.n)
		st.sp.live.Add(-1)
	}
	if st.writer == se.n {
		st.closeActive()
	}
	st.notifyLocked()
	st.mu.Unlock()
	st.wmu.Unlock()
	if err != nil {
		return fmt.Errorf("detach session %s: %w", se.fifo, err)
	}
	if attached {
		st.trim()
		if st.removeIfEmpty() {
			st.sp.forget(st)
		}
	}
	return nil
}

// Splice moves up to max bytes from the pipe behind fd to the end of the
// stream, without a copy through this process. The bytes leave the pipe only
// after they are in the page cache of the segment (linux fs/splice.c), so being
// killed at any point neither loses nor doubles one.
//
// It returns the number of bytes moved; 0 without an error is the pipe's end.
// The error is unix.EAGAIN where the pipe is empty, a *BusyError where another
// session is in the way, ErrEnded after Detach, else what the disk said.
func (se *Session) Splice(fd int, max int) (int, error) {
	st := se.st
	st.wmu.Lock()
	defer st.wmu.Unlock()
	if err := se.mayWrite(); err != nil {
		return 0, err
	}
	st.beginWrite()
	defer st.endWrite()
	full := st.givesWay(st.dropping != nil) && st.policy() == DropNewest
	if st.writer != se.n {
		st.endDrop()
	}
	if d := st.dropping; d != nil {
		if missing := d.cut.want(); full || missing > 0 {
			if !full {
				max = missing
			}
			return se.discard(fd, max)
		}
		st.endDrop()
	}
	if full {
		return se.dropNewest(fd, max)
	}
	n, err := se.spliceTo(fd, max)
	if isFull(err) && st.policy() == DropNewest {
		return se.dropNewest(fd, max)
	}
	return n, err
}

// spliceTo moves bytes into the segment being written, or a new one. It is
// called with wmu held.
func (se *Session) spliceTo(fd, max int) (int, error) {
	st := se.st
	if se.mustRoll() {
		// A new file only when there is something to put in it: a session
		// that never carries a byte leaves nothing behind.
		if err := readable(fd); err != nil {
			return 0, ignoreEOF(err)
		}
		err := se.roll()
		for st.makeRoom(err) || tooManyFiles(err) && st.sp.giveBack() {
			err = se.roll()
		}
		if err != nil {
			return 0, err
		}
	}
	size := st.activeSize()
	most := int(min(int64(max), st.sp.segmentBytes()-size))
	n, err := st.sp.cfg.disk.splice(fd, st.active, size, most)
	for st.makeRoom(err) {
		n, err = st.sp.cfg.disk.splice(fd, st.active, size, most)
	}
	if err != nil {
		return 0, err
	}
	se.grew(n)
	return int(n), nil
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

var errEOF = errors.New("pipe has no writer and no bytes")

func ignoreEOF(err error) error {
	if errors.Is(err, errEOF) {
		return nil
	}
	return err
}

// readable returns nil where the pipe holds bytes, unix.EAGAIN where it is
// empty and errEOF where it is empty and has no writer.
func readable(fd int) error {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD by its other name
	if err != nil {
		return fmt.Errorf("ask how full the pipe is: %w", err)
	}
	if n > 0 {
		return nil
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, 0); err == nil && p[0].Revents&unix.POLLHUP != 0 && p[0].Revents&unix.POLLIN == 0 {
		return errEOF
	}
	return unix.EAGAIN
}

func (se *Session) mayWrite() error {
	st := se.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.sessions[se.n] != se {
		return ErrEnded
	}
	if st.writer == se.n {
		return nil
	}
	for n, other := range st.sessions {
		if n < se.n {
			return &BusyError{other}
		}
	}
	return nil // a newer one may have written; rather a seam between the two than a pipe that nobody reads
}

func (st *Stream) activeSize() int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.segs[len(st.segs)-1].size
}

// mustRoll reports whether the next byte needs another segment than the one
// that is open. It is called with wmu held.
func (se *Session) mustRoll() bool {
	st := se.st
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.active == nil || st.writer != se.n || st.sealed || len(st.segs) == 0 ||
		st.segs[len(st.segs)-1].size >= st.sp.segmentBytes()
}

// roll opens the segment that the session writes next: its last one after a
// restart, while there is room in it, else a new one.
func (se *Session) roll() error {
	st := se.st
	st.mu.Lock()
	resume := len(st.segs) > 0 && st.active == nil && st.writer == se.n && !st.sealed
	g := segment{offset: st.end, session: se.n, wrote: time.Now()}
	if resume {
		g = st.segs[len(st.segs)-1]
		resume = g.session == se.n && g.size < st.sp.segmentBytes() && g.end() == st.end
		if !resume {
			g = segment{offset: st.end, session: se.n, wrote: time.Now()}
		}
	}
	st.mu.Unlock()
	if err := st.settleJump(); err != nil {
		return err
	}
	f, err := st.sp.cfg.disk.open(filepath.Join(st.dir, g.name()), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("open a segment: %w", err)
	}
	st.closeActive()
	st.active = f
	st.sp.opened()
	st.mu.Lock()
	begins := st.writer != se.n || st.clean // a session's first byte begins a frame
	st.writer, st.sealed, st.clean = se.n, false, false
	if !resume {
		st.segs = append(st.segs, g)
		st.sp.used.Add(overhead)
		if begins {
			st.markLocked(&st.segs[len(st.segs)-1], Place{Offset: g.offset})
		} else if st.mayDropNewestLocked() && len(st.segs) > 1 {
			st.locateFrames(len(st.segs) - 2) // so that the way to the end of a frame is short, see openFrame
		}
		st.recountLocked()
	}
	st.mu.Unlock()
	st.trim()
	st.sp.enforce()
	return nil
}

func (se *Session) grew(n int64) {
	if n == 0 {
		return
	}
	st := se.st
	st.mu.Lock()
	defer st.mu.Unlock()
	g := &st.segs[len(st.segs)-1]
	g.size += n
	g.wrote = time.Now()
	st.stampLocked(g.wrote)
	st.end += uint64(n)
	st.sp.used.Add(n)
	st.recountLocked()
	st.sp.health.spooled.Add(uint64(n))
	st.notifyLocked()
}
