// Package spool keeps what containers wrote until every route has it, and for
// `docker logs` after that as long as there is room.
//
// It stands first on the data path, right behind the FIFO: a byte is here
// before anything looks at it. It does not know what the bytes mean. One stream
// holds all that one container wrote, over all its runs; see FORMAT.md for what
// lies on the disk and why a crash at any point loses and tears nothing.
package spool

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	versionFile = "VERSION"
	version     = "dockline-spool 1\n"
	streamsDir  = "streams"
	badDir      = "quarantine"
	streamFile  = "stream.json"
)

// ErrVersion means that the directory was written by a version that this one
// cannot read. Nothing in it has been touched.
var ErrVersion = errors.New("spool of another version")

// Config bounds the spool. Sizes are in bytes.
type Config struct {
	MaxBytes     int64 // for the whole spool; the oldest data goes first
	MinFree      int64 // of the disk, left alone whoever fills it; 0: do not look
	SegmentBytes int64 // one segment file; what is evicted at a time

	// FrameLen returns the length of the frame at the start of b with its
	// header, which may be more than b holds, or 0 where b is too short to
	// tell. It is all that the spool has to know of frames.
	FrameLen func(b []byte) (int, error)

	disk disk // for tests; the zero value is the real one
}

// Spool is the directory of all streams of a host.
type Spool struct {
	dir string
	cfg Config
	log *slog.Logger

	used    atomic.Int64 // bytes accounted for, see overhead
	dropped atomic.Int64 // bytes evicted or discarded before every route had them
	live    atomic.Int64 // attached sessions
	evictor sync.Mutex   // held by the one who evicts; never waited for

	mu      sync.Mutex         // guards what follows; taken before a stream's mu
	streams map[string]*Stream // by stream id
	byOwner map[string]*Stream // by container id
}

// header is what stream.json holds.
type header struct {
	Container string          `json:"container"`
	Created   time.Time       `json:"created"`
	KeepBytes int64           `json:"keep_bytes"`
	Info      json.RawMessage `json:"info"`
}

// Open reads the spool below dir, making it where there is none. The error
// wraps ErrVersion where another version wrote it. A stream that cannot be read
// is reported and left alone.
func Open(dir string, cfg Config, log *slog.Logger) (*Spool, error) {
	s := &Spool{dir: dir, cfg: cfg, log: log, streams: map[string]*Stream{}, byOwner: map[string]*Stream{}}
	for _, sub := range []string{streamsDir, badDir} {
		if err := cfg.disk.mkdirAll(filepath.Join(dir, sub)); err != nil {
			return nil, fmt.Errorf("make the spool's directory: %w", err)
		}
	}
	if err := s.checkVersion(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, streamsDir))
	if err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			_ = cfg.disk.removeTemp(filepath.Join(dir, streamsDir, e.Name())) // being made or deleted: holds nothing of use
			continue
		}
		if err := s.load(e.Name()); err != nil {
			log.Error("a stream cannot be read and is left alone", "stream", e.Name(), "err", err)
		}
	}
	if err := s.noteBoot(); err != nil {
		return nil, err
	}
	s.enforce()
	return s, nil
}

func (s *Spool) checkVersion() error {
	path := filepath.Join(s.dir, versionFile)
	got, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s.cfg.disk.replace(path, []byte(version))
	}
	if err != nil {
		return fmt.Errorf("read the spool's version: %w", err)
	}
	if string(got) != version {
		return fmt.Errorf("%w: %s says %q, this dockline-log reads %q", ErrVersion, path, strings.TrimSpace(string(got)), strings.TrimSpace(version))
	}
	return nil
}

// load reads one stream. A header that a power cut has emptied leaves a stream
// of nobody: it cannot be delivered, but is counted, read by hand, and evicted.
func (s *Spool) load(id string) error {
	st := newStream(s, id)
	data, err := os.ReadFile(filepath.Join(st.dir, streamFile))
	if err == nil {
		err = json.Unmarshal(data, &st.header)
	}
	if err != nil {
		s.log.Error("what a stream is of cannot be read; it cannot be delivered", "stream", id, "err", err)
	}
	if err := st.recover(); err != nil {
		return err
	}
	if st.removeIfEmpty() {
		return nil
	}
	s.streams[id] = st
	if st.header.Container != "" {
		s.byOwner[st.header.Container] = st
	}
	return nil
}

// Streams returns all streams, in no order.
func (s *Spool) Streams() []*Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Stream, 0, len(s.streams))
	for _, st := range s.streams {
		all = append(all, st)
	}
	return all
}

// Of returns the stream of a container, or nil.
func (s *Spool) Of(container string) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byOwner[container]
}

// Used returns how many bytes the spool takes, and how many it had to drop
// before every route had them, since this process began.
func (s *Spool) Used() (used, dropped int64) { return s.used.Load(), s.dropped.Load() }

// Params describes a stream that is to be made.
type Params struct {
	Container string          // container id
	Info      json.RawMessage // kept with the stream, for the caller
	KeepBytes int64           // of acknowledged data, for docker logs
	Routes    []string        // each gets a cursor at the stream's start
}

// Attach begins a session in the container's stream, which is made if there is
// none. The FIFO's path is on the disk when Attach returns, so that a restarted
// plugin finds it. Attaching the same path again returns the session there is
// and says that it was not created.
func (s *Spool) Attach(p Params, fifo string) (se *Session, created bool, err error) {
	if p.Container == "" {
		return nil, false, errors.New("a stream needs a container id")
	}
	for {
		st, isNew := s.lockedStream(p)
		if isNew {
			err = st.createLocked()
		}
		if err == nil {
			se, created, err = st.attachLocked(p, fifo)
		}
		gone := err != nil && st.removeIfEmptyLocked()
		st.mu.Unlock()
		if gone {
			s.forget(st)
		}
		if !errors.Is(err, errGone) {
			return se, created, err
		}
		err = nil // it was deleted while we waited for it
	}
}

// lockedStream returns the container's stream with its mu held, or a new one
// that is not on the disk yet: whoever wants it has to wait for that, and no
// other container has.
func (s *Spool) lockedStream(p Params) (st *Stream, isNew bool) {
	s.mu.Lock()
	st = s.byOwner[p.Container]
	if st == nil {
		st, isNew = newStream(s, newID(p.Container)), true
		st.header = header{Container: p.Container, Created: time.Now().UTC(), KeepBytes: p.KeepBytes, Info: p.Info}
		st.gone = true // until it is on the disk
		st.mu.Lock()   // nobody knows it yet, so there is nobody to wait for
		s.streams[st.id] = st
		s.byOwner[p.Container] = st
	}
	s.mu.Unlock()
	if !isNew {
		st.mu.Lock()
	}
	return st, isNew
}

// createLocked makes the directory under a temporary name and renames it, so
// that a stream is on the disk whole or not at all.
func (st *Stream) createLocked() error {
	disk := st.sp.cfg.disk
	tmp := filepath.Join(st.sp.dir, streamsDir, tmpPrefix+st.id)
	data, err := json.Marshal(st.header)
	if err != nil {
		return fmt.Errorf("encode %s: %w", streamFile, err)
	}
	if err := disk.mkdir(tmp); err != nil {
		return fmt.Errorf("make a stream: %w", err)
	}
	err = disk.writeFile(filepath.Join(tmp, streamFile), data)
	if err == nil {
		err = disk.rename(tmp, st.dir)
	}
	if err != nil {
		_ = disk.removeTemp(tmp)
		return fmt.Errorf("make a stream: %w", err)
	}
	st.gone = false
	return nil
}

// newID returns an id that is never used twice: should the spool be deleted
// while a container lives on, its next stream must not repeat record ids.
func newID(container string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return strings.ToLower(container[:min(12, len(container))]) + hex.EncodeToString(b[:])
}

// forget takes a stream out of the maps if it is the one that is in them.
func (s *Spool) forget(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.id)
	if s.byOwner[st.header.Container] == st {
		delete(s.byOwner, st.header.Container)
	}
}

// segmentBytes is the size at which a segment is full: as configured, less
// where so many containers live that their open segments alone would be more
// than the spool may hold.
func (s *Spool) segmentBytes() int64 {
	share := s.cfg.MaxBytes / (4 * max(1, s.live.Load()))
	return min(s.cfg.SegmentBytes, max(share, minSegment))
}

const (
	minSegment = 64 << 10
	// evictAtOnce bounds the segments that one call evicts: it is made on the
	// way of a container's bytes into the spool.
	evictAtOnce = 64
)

// enforce evicts the oldest segments until the spool is within its bound:
// those that every route has first, then those that some has not, and when
// there are only segments being written, those that have been quiet longest.
func (s *Spool) enforce() {
	used, limit := s.used.Load(), s.cfg.MaxBytes
	if missing := s.cfg.MinFree - s.free(); missing > 0 {
		limit = min(limit, used-missing)
	}
	if used <= limit || !s.evictor.TryLock() {
		return
	}
	defer s.evictor.Unlock()
	s.evictTo(limit - s.cfg.MaxBytes/32) // a little more, so as not to come back at once
}

// free returns what is free on the spool's disk, or more than anybody asks for
// where that is not known or does not matter.
func (s *Spool) free() int64 {
	var fs unix.Statfs_t
	if s.cfg.MinFree == 0 || unix.Statfs(s.dir, &fs) != nil {
		return math.MaxInt64
	}
	return int64(fs.Bavail) * fs.Bsize
}

// reclaim makes room on a disk that is full though the spool is within its
// bound. It reports whether anything went.
func (s *Spool) reclaim() bool {
	if !s.evictor.TryLock() {
		return false
	}
	defer s.evictor.Unlock()
	before := s.used.Load()
	s.evictTo(before - s.cfg.SegmentBytes)
	return s.used.Load() < before
}

func (s *Spool) evictTo(target int64) {
	n := 0
	for _, stage := range []stage{acknowledged, unacknowledged, beingWritten} {
		for _, v := range s.victims(stage) {
			if s.used.Load() <= target || n >= evictAtOnce {
				return
			}
			if stage == beingWritten && !v.stream.seal() {
				continue
			}
			v.stream.evict(v.offset, stage != acknowledged)
			n++
		}
	}
}

// stage is how far an eviction goes.
type stage int

const (
	acknowledged stage = iota
	unacknowledged
	beingWritten
)

type victim struct {
	stream *Stream
	offset uint64
	wrote  time.Time
}

// victims lists the segments that may go, oldest first.
func (s *Spool) victims(g stage) []victim {
	var all []victim
	for _, st := range s.Streams() {
		all = st.appendVictims(all, g)
	}
	slices.SortStableFunc(all, func(a, b victim) int { return a.wrote.Compare(b.wrote) })
	return all
}

// Quarantine puts bytes that cannot be understood aside, under a name that
// says where they were. What is there already is not written again.
func (st *Stream) Quarantine(offset uint64, data []byte) error {
	path := filepath.Join(st.sp.dir, badDir, fmt.Sprintf("%s-%016x", st.id, offset))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := st.sp.cfg.disk.replace(path, data); err != nil {
		return fmt.Errorf("put bytes into quarantine: %w", err)
	}
	return nil
}

const tmpPrefix = ".tmp-"
