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
	product     = "dockline-spool "
	version     = product + "1\n"
	streamsDir  = "streams"
	badDir      = "quarantine"
	streamFile  = "stream.json"
)

// VersionError means that the spool in the directory was written by a version
// that this one cannot read. Nothing in it has been touched.
type VersionError struct{ Dir, Is, Want string }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the spool is of another version: %s says %q, this dockline-log reads %q", filepath.Join(e.Dir, versionFile), e.Is, e.Want)
}

// Config bounds the spool. Sizes are in bytes.
type Config struct {
	MaxBytes     int64 // for the whole spool; the oldest data goes first
	MinFree      int64 // of the disk, left alone whoever fills it; 0: do not look
	SegmentBytes int64 // one segment file; what is evicted at a time

	// FrameLen returns the length of the frame at the start of b with its
	// header, which may be more than b holds, or 0 where b is too short to
	// tell. It is all that the spool has to know of frames.
	FrameLen func(b []byte) (int, error)

	// Name returns a container's name out of what Attach was given of it, "" where
	// it has none. Logs have it.
	Name func(info json.RawMessage) string

	disk disk // for tests; the zero value is the real one
}

// Spool is the directory of all streams of a host.
type Spool struct {
	dir string
	cfg Config
	log *slog.Logger

	used      atomic.Int64 // bytes accounted for, see overhead
	protected atomic.Int64 // of these, what no route may lose, see OnFull
	fullAt    atomic.Int64 // when the disk was last found full, with nothing to evict; Unix ns
	dropped   dropped
	syncs     syncs
	live      atomic.Int64 // attached sessions
	evictor   sync.Mutex   // held by the one who evicts; never waited for
	health    health
	maxOpen   int64 // of files for writing

	boot        uint32      // which boot of the machine this is, see boot.go
	bootName    string      // its id
	bootMu      sync.Mutex  // held by the one who writes them down
	bootSettled atomic.Bool // that is done

	mu      sync.Mutex         // guards what follows; taken before a stream's mu
	streams map[string]*Stream // by stream id
	byOwner map[string]*Stream // by container id
	nobodys map[string]*Stream // those of which that cannot be read, by idKey
}

// dropped counts what was lost, by the policy that had it so.
type dropped struct {
	oldest, throttled atomic.Int64 // bytes evicted before every route had them
	newest, disk      dropCounters // what was never kept
}

// dropCounters counts what was taken from pipes and not kept.
type dropCounters struct{ bytes, records atomic.Int64 }

// header is what stream.json holds.
type header struct {
	Container string          `json:"container"`
	Created   time.Time       `json:"created"`
	KeepBytes int64           `json:"keep_bytes"`
	OnFull    OnFull          `json:"on_full"`
	OfRoutes  OfRoutes        `json:"on_full_of_routes,omitempty"` // that have one of their own
	Sync      time.Duration   `json:"sync_interval"`               // nanoseconds; 0: never
	Info      json.RawMessage `json:"info"`
	Boot      uint32          `json:"boot"` // in which the stream was made, see boot.go
}

// Open reads the spool below dir, making it where there is none. The error
// wraps a *VersionError where another version wrote it. A stream that cannot be read
// is reported and left alone.
func Open(dir string, cfg Config, log *slog.Logger) (*Spool, error) {
	s := &Spool{syncs: syncs{wanted: make(chan struct{}, 1)}, dir: dir, cfg: cfg, log: log, streams: map[string]*Stream{}, byOwner: map[string]*Stream{}, nobodys: map[string]*Stream{}, maxOpen: maxOpen()}
	if err := cfg.disk.mkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make the spool's directory: %w", err)
	}
	if err := s.checkVersion(); err != nil {
		return nil, err // before anything is touched
	}
	for _, sub := range []string{streamsDir, badDir} {
		if err := cfg.disk.mkdirAll(filepath.Join(dir, sub)); err != nil {
			return nil, fmt.Errorf("make the spool's directory: %w", err)
		}
	}
	if err := s.countQuarantine(); err != nil {
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
	if err := s.countBoot(); err != nil {
		return nil, err
	}
	s.enforce()
	return s, nil
}

func (s *Spool) checkVersion() error {
	path := filepath.Join(s.dir, versionFile)
	got, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s.cfg.disk.exchangeForGood(path, []byte(version))
	}
	if err != nil {
		return fmt.Errorf("read the spool's version: %w", err)
	}
	if !strings.HasPrefix(string(got), product) {
		s.log.Error("the spool's version cannot be read; it is taken for this one", "is", string(got))
		return nil
	}
	if string(got) != version {
		return &VersionError{Dir: s.dir, Is: strings.TrimSpace(string(got)), Want: strings.TrimSpace(version)}
	}
	return nil
}

// load reads one stream. A header that a power cut has emptied leaves a stream
// of nobody: it is kept as long as there is room, until its container starts
// again or asks for its logs, see adoptLocked.
func (s *Spool) load(id string) error {
	st := newStream(s, id)
	data, err := os.ReadFile(filepath.Join(st.dir, streamFile))
	if err == nil {
		err = json.Unmarshal(data, &st.header)
	}
	if err != nil {
		s.log.Error("what a stream is of cannot be read; it is not delivered before its container starts again", "stream", id, "err", err)
		st.header = header{KeepBytes: math.MaxInt64 / 2}
	}
	st.boot = st.header.Boot
	st.named()
	if err := st.recover(); err != nil {
		return err
	}
	if st.removeIfEmpty() {
		return nil
	}
	s.streams[id] = st
	if st.header.Container != "" {
		s.byOwner[st.header.Container] = st
	} else {
		s.nobodys[idKey(id)] = st
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
	s.adoptLocked(container)
	return s.byOwner[container]
}

// adoptLocked gives a container the stream that is its by its id though its
// header cannot be read. The header is written again by the next Attach.
func (s *Spool) adoptLocked(container string) {
	key := idKey(container)
	st := s.nobodys[key]
	if st == nil || s.byOwner[container] != nil {
		return
	}
	s.log.Warn("a stream whose description could not be read belongs to a container that is back", "container", st.Name(), "stream", st.id)
	st.own(container)
	s.byOwner[container] = st
	delete(s.nobodys, key)
}

// Used returns how many bytes the spool takes, and how many it had to drop
// before every route had them, since this process began.
func (s *Spool) Used() (used, dropped int64) {
	for _, d := range s.Dropped() {
		dropped += d.Bytes
	}
	return s.used.Load(), dropped
}

// Params describes a stream that is to be made.
type Params struct {
	Container string          // container id
	Info      json.RawMessage // kept with the stream, for the caller
	KeepBytes int64           // of acknowledged data, for docker logs
	OnFull    OnFull          // what gives way where the spool is full
	OfRoutes  OfRoutes        // the same for routes that have one of their own
	Sync      time.Duration   // at least so often it is synced to the disk, by Run; 0: never
	Routes    []string        // each gets a cursor at the stream's start
}

// Attach begins a session in the container's stream, which is made if there is
// none. The FIFO's path is on the disk when Attach returns, so that a restarted
// plugin finds it. Attaching the same path again returns the session there is
// and says that it was not created.
func (s *Spool) Attach(p Params, fifo string) (se *Session, created bool, err error) {
	se, created, err = s.attach(p, fifo)
	for isFull(err) && s.reclaim() || tooManyFiles(err) && s.giveBack() {
		se, created, err = s.attach(p, fifo)
	}
	return se, created, err
}

// attach holds no lock of the spool's while it waits for the disk: a slow one
// must not hold up other containers.
func (s *Spool) attach(p Params, fifo string) (se *Session, created bool, err error) {
	for {
		st := s.Of(p.Container)
		if st == nil {
			if st, err = s.create(p); err != nil {
				return nil, false, err
			}
		}
		se, created, err = st.attach(p, fifo)
		if errors.Is(err, errGone) {
			s.forget(st)
			continue
		}
		if err != nil && st.removeIfEmpty() {
			s.forget(st)
		}
		return se, created, err
	}
}

// create makes the directory under a temporary name and renames it, so that a
// stream is on the disk whole or not at all.
func (s *Spool) create(p Params) (*Stream, error) {
	if p.Container == "" {
		return nil, errors.New("a stream needs a container id")
	}
	if err := s.settleBoot(); err != nil {
		return nil, err
	}
	st := newStream(s, newID(p.Container))
	st.boot = s.boot
	st.header = header{Container: p.Container, Created: time.Now().UTC(), KeepBytes: p.KeepBytes, OnFull: p.OnFull, OfRoutes: p.OfRoutes, Sync: p.Sync, Info: p.Info, Boot: s.boot}
	st.named()
	tmp := filepath.Join(s.dir, streamsDir, tmpPrefix+st.id)
	data, err := json.Marshal(st.header)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", streamFile, err)
	}
	err = s.cfg.disk.mkdir(tmp)
	if err == nil {
		err = s.cfg.disk.writeFile(filepath.Join(tmp, streamFile), data)
	}
	if err == nil {
		err = s.cfg.disk.rename(tmp, st.dir)
	}
	if err != nil {
		_ = s.cfg.disk.removeTemp(tmp)
		return nil, fmt.Errorf("make a stream: %w", err)
	}
	if other := s.register(st); other != st {
		st.removeIfEmpty()
		return other, nil
	}
	return st, nil
}

// register makes the stream its container's, unless another has become that
// meanwhile, and returns the one that is.
func (s *Spool) register(st *Stream) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.byOwner[st.header.Container]; other != nil {
		return other
	}
	s.streams[st.id] = st
	s.byOwner[st.header.Container] = st
	return st
}

// idKey is how much of a container's id its stream's id begins with.
func idKey(id string) string { return strings.ToLower(id[:min(12, len(id))]) }

// newID returns an id that is never used twice: should the spool be deleted
// while a container lives on, its next stream must not repeat record ids.
func newID(container string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return idKey(container) + hex.EncodeToString(b[:])
}

// forget takes a stream out of the maps if it is the one that is in them.
func (s *Spool) forget(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.id)
	if owner := st.Container(); s.byOwner[owner] == st {
		delete(s.byOwner, owner)
	}
	if s.nobodys[idKey(st.id)] == st {
		delete(s.nobodys, idKey(st.id))
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
	// newsShare is the part of the spool, one in so many bytes, that streams may
	// take of which nothing is left but the news that something was dropped.
	newsShare = 64
)

// enforce evicts the oldest segments until the spool is within its bound:
// those that every route has first, then those that some has not, and when
// there are only segments being written, those that have been quiet longest.
// Protected data goes only where the bound itself is at stake.
func (s *Spool) enforce() {
	limit := s.limit()
	if s.used.Load() <= limit || !s.evictor.TryLock() {
		return
	}
	defer s.evictor.Unlock()
	some := max(0, limit) / 32 // more than needed, so as not to come back at once; the disk may have far less than MaxBytes
	s.evictTo(limit-some, acknowledged, unacknowledged, beingWritten)
	if s.used.Load() > s.cfg.MaxBytes {
		s.evictTo(s.cfg.MaxBytes-some, throttled, forgotten)
	}
}

// free returns what is free on the spool's disk, or more than anybody asks for
// where that is not known or does not matter.
func (s *Spool) free() int64 {
	if s.cfg.disk.free != nil {
		return s.cfg.disk.free()
	}
	var fs unix.Statfs_t
	if s.cfg.MinFree == 0 || unix.Statfs(s.dir, &fs) != nil {
		return math.MaxInt64
	}
	return int64(fs.Bavail) * fs.Bsize
}

func (s *Spool) evictTo(target int64, stages ...stage) {
	defer s.boundNews()
	n := 0
	for _, stage := range stages {
		for _, v := range s.victims(stage) {
			if s.used.Load() <= target || n >= evictAtOnce {
				return
			}
			if stage == forgotten {
				v.stream.forget()
				continue
			}
			if stage == beingWritten && !v.stream.seal() {
				continue
			}
			v.stream.evict(v.offset, stage != acknowledged)
			n++
		}
	}
}

// boundNews forgets the oldest streams of which nothing is left but the news
// that something was dropped, where there are too many.
func (s *Spool) boundNews() {
	all := s.victims(forgotten)
	most := max(1, int(s.cfg.MaxBytes/newsShare/overhead))
	for _, v := range all[:max(0, len(all)-most)] {
		s.log.Warn("no collector is told any more what was dropped: there are too many such streams", "container", v.stream.Name(), "stream", v.stream.id)
		v.stream.forget()
	}
}

// stage is how far an eviction goes.
type stage int

const (
	acknowledged stage = iota
	unacknowledged
	beingWritten
	throttled // what throttled streams hold, acknowledged or not
	forgotten // streams that hold nothing but the news of what was dropped
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

const tmpPrefix = ".tmp-"
