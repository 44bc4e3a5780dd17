package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrEnded means that the session was detached.
var ErrEnded = errors.New("session has ended")

// BusyError means that another session of the stream wrote last and is still
// attached: it has to be drained and detached first, or two FIFOs would be
// mixed in one stream.
type BusyError struct{ Other *Session }

func (e *BusyError) Error() string { return "another session is writing: " + e.Other.fifo }

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

func (st *Stream) attach(p Params, fifo string) (*Session, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone {
		return nil, errGone
	}
	for _, se := range st.sessions {
		if se.fifo == fifo {
			return se, nil
		}
	}
	for _, route := range p.Routes {
		if err := st.routeLocked(route); err != nil {
			return nil, err
		}
	}
	se := &Session{st: st, n: st.last + 1, fifo: fifo}
	if err := writeFile(se.path(), []byte(fifo)); err != nil {
		return nil, fmt.Errorf("attach a session: %w", err)
	}
	st.last = se.n
	st.sessions[se.n] = se
	return se, nil
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
	st.mu.Lock()
	_, attached := st.sessions[se.n]
	err := os.Remove(se.path())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		delete(st.sessions, se.n)
	}
	if st.writer == se.n && st.active != nil {
		err = errors.Join(err, st.active.Close())
		st.active = nil
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
	if st.active == nil || st.writer != se.n || st.activeSize() >= st.sp.cfg.SegmentBytes {
		// A new file only when there is something to put in it: a session
		// that never carries a byte leaves nothing behind.
		if err := readable(fd); err != nil {
			return 0, ignoreEOF(err)
		}
		if err := se.roll(); err != nil {
			return 0, err
		}
	}
	size := st.activeSize()
	at, room := size, st.sp.cfg.SegmentBytes-size
	for {
		n, err := unix.Splice(fd, nil, int(st.active.Fd()), &at, int(min(int64(max), room)), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		se.grew(n)
		return int(n), nil
	}
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
	if other := st.sessions[st.writer]; other != nil && other != se && len(st.segs) > 0 {
		return &BusyError{other}
	}
	return nil
}

func (st *Stream) activeSize() int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.segs[len(st.segs)-1].size
}

// roll opens the segment that the session writes next: its last one after a
// restart, while there is room in it, else a new one.
func (se *Session) roll() error {
	st := se.st
	st.mu.Lock()
	resume := len(st.segs) > 0 && st.active == nil && st.writer == se.n
	g := segment{offset: st.end, session: se.n, wrote: time.Now()}
	if resume {
		g = st.segs[len(st.segs)-1]
		resume = g.session == se.n && g.size < st.sp.cfg.SegmentBytes && g.end() == st.end
		if !resume {
			g = segment{offset: st.end, session: se.n, wrote: time.Now()}
		}
	}
	st.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(st.dir, g.name()), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open a segment: %w", err)
	}
	if st.active != nil {
		_ = st.active.Close() // holds nothing that a close could lose
	}
	st.active = f
	st.mu.Lock()
	st.writer = se.n
	if !resume {
		begins := len(st.segs) == 0 || st.segs[len(st.segs)-1].session != se.n
		st.segs = append(st.segs, g)
		st.sp.used.Add(overhead)
		if begins { // a session's first byte begins a frame
			st.markLocked(&st.segs[len(st.segs)-1], Place{Offset: g.offset})
		}
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
	st.end += uint64(n)
	st.sp.used.Add(n)
	st.notifyLocked()
}
