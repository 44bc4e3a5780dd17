package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slowSplice is how long a move of bytes into the spool may take. The kernel
// holds up the engine's writes to the pipe meanwhile, so beyond it an alarm is
// raised, while it goes on.
const slowSplice = time.Second

// Health is what an operator wants to know of the spool beside its size.
type Health struct {
	Spooled         uint64 `json:"spooled_bytes"` // bytes that were moved into the spool since the process began
	Slow            uint64 `json:"slow_splices"`  // moves of bytes into the spool that took longer than a second
	Stuck           int    `json:"stuck_splices"` // such that go on now
	CursorErrors    uint64 `json:"cursor_errors"` // cursors that could not be written; their records may be sent again
	Segments        int    `json:"segments"`
	QuarantineFiles int    `json:"quarantine_files"`
	QuarantineBytes int64  `json:"quarantine_bytes"`
	QuarantineLost  int64  `json:"quarantine_lost_bytes"` // bytes that were damaged and for which quarantine had no room
}

// health holds the counters behind Health.
type health struct {
	slow, cursorErrors atomic.Uint64
	stuck              atomic.Int64

	files, bytes, lost atomic.Int64 // of the quarantine

	spooled atomic.Uint64
	open    atomic.Int64 // segments and cursors that are open for writing
}

// Health looks at everything.
func (s *Spool) Health() Health {
	h := Health{
		Spooled: s.health.spooled.Load(),
		Slow:    s.health.slow.Load(), Stuck: int(max(0, s.health.stuck.Load())), CursorErrors: s.health.cursorErrors.Load(),
		QuarantineFiles: int(s.health.files.Load()), QuarantineBytes: s.health.bytes.Load(), QuarantineLost: s.health.lost.Load(),
	}
	for _, st := range s.Streams() {
		h.Segments += st.Segments()
	}
	return h
}

// Segments returns how many files the stream's bytes are in.
func (st *Stream) Segments() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.segs)
}

// alarm watches one stream's writes to the disk. It belongs to who holds wmu.
type alarm struct {
	timer *time.Timer
	began time.Time
}

func (st *Stream) beginWrite() {
	st.alarm.began = time.Now()
	if st.alarm.timer == nil {
		st.alarm.timer = time.AfterFunc(slowSplice, st.stuck)
		return
	}
	st.alarm.timer.Reset(slowSplice)
}

func (st *Stream) stuck() {
	st.sp.health.stuck.Add(1)
	st.log().Error("the spool's disk is slow: a container's output waits for it", "for", slowSplice)
}

func (st *Stream) endWrite() {
	if st.alarm.timer.Stop() {
		return
	}
	st.sp.health.stuck.Add(-1)
	st.sp.health.slow.Add(1)
	st.log().Warn("the spool's disk has taken a container's output after a while", "took", time.Since(st.alarm.began).Round(time.Millisecond))
}

// quarantineShare is the part of the spool's bound that damaged bytes may take
// beside it. What is beyond that is counted only.
const quarantineShare = 8

// Quarantine puts bytes that cannot be understood aside, under a name that
// says where they were. What is there already is not written again.
func (st *Stream) Quarantine(offset uint64, data []byte) error {
	s := st.sp
	path := filepath.Join(s.dir, badDir, fmt.Sprintf("%s-%016x", st.id, offset))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if s.health.bytes.Load()+int64(len(data)) > s.cfg.MaxBytes/quarantineShare {
		s.health.lost.Add(int64(len(data)))
		return errors.New("there is no room in quarantine; the bytes are not kept")
	}
	err := s.cfg.disk.replace(path, data)
	for st.makeRoom(err) {
		err = s.cfg.disk.replace(path, data)
	}
	if err != nil {
		s.health.lost.Add(int64(len(data)))
		return fmt.Errorf("put bytes into quarantine: %w", err)
	}
	s.health.files.Add(1)
	s.health.bytes.Add(int64(len(data)))
	return nil
}

// countQuarantine counts what former processes have put there.
func (s *Spool) countQuarantine() error {
	err := filepath.WalkDir(filepath.Join(s.dir, badDir), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if info, err := e.Info(); err == nil {
			s.health.files.Add(1)
			s.health.bytes.Add(info.Size())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the quarantine: %w", err)
	}
	return nil
}

// readable reports whether the disk as such can be read, past what is cached of
// it where the file system knows how.
func (s *Spool) readable() bool {
	f, err := os.OpenFile(filepath.Join(s.dir, versionFile), os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.Open(filepath.Join(s.dir, versionFile))
	}
	if err != nil {
		return false
	}
	defer f.Close()
	const block = 4096
	b := make([]byte, 2*block) // O_DIRECT wants an address that is a multiple
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (block - 1)
	_, err = f.ReadAt(b[skip:skip+block], 0)
	return err == nil || errors.Is(err, io.EOF)
}

// tooManyFiles reports whether err means that there are no descriptors left.
func tooManyFiles(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

// opened counts a file that was opened for writing. A quarter of the descriptors that
// the process may have are for those; FIFOs, readers and connections need the rest.
func (s *Spool) opened() {
	if s.health.open.Add(1) > s.maxOpen {
		s.giveBack()
	}
}

// maxOpen returns how many files the spool may hold open for writing.
func maxOpen() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 512
	}
	return int64(min(limit.Cur/4, 1<<20))
}

// giveBack closes the files of all streams that are not being written this
// moment. They are opened again when there is something to put into them. It
// reports whether there was any.
func (s *Spool) giveBack() (some bool) {
	for _, st := range s.Streams() {
		if st.wmu.TryLock() {
			some = st.closeActive() || some
			st.wmu.Unlock()
		}
		st.mu.Lock()
		for _, c := range st.cursors {
			if c.mu.TryLock() {
				some = c.closeLocked() || some
				c.mu.Unlock()
			}
		}
		st.mu.Unlock()
	}
	return some
}

// closeActive closes the segment that is being written, which loses nothing,
// and reports whether one was open. It is called with wmu held.
func (st *Stream) closeActive() bool {
	if st.active == nil {
		return false
	}
	_ = st.active.Close()
	st.active = nil
	st.sp.health.open.Add(-1)
	return true
}

// Close closes all files. Nothing has to be closed for the spool's sake; it is
// for a process that goes on without it.
func (s *Spool) Close() {
	for _, st := range s.Streams() {
		st.wmu.Lock()
		st.closeActive()
		st.wmu.Unlock()
		st.mu.Lock()
		for _, c := range st.cursors {
			c.mu.Lock()
			c.closeLocked()
			c.mu.Unlock()
		}
		st.mu.Unlock()
	}
}
