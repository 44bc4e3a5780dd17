package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A plugin that finds a spool of a newer version, after a downgrade, cannot add
// to it. But containers must go on, so it moves what they write into one folder
// of the spool, whose form never changes, and touches nothing else. The next
// plugin that can read the spool takes it from there.
const (
	rescueDir = "rescue"
	noteExt   = ".json"
	partExt   = ".part"
)

// Rescue is the folder as the plugin that fills it sees it.
type Rescue struct {
	dir string
	cfg Config
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	all     map[string]*Rescued
	last    uint32
	used    int64
	dropped int64
	said    time.Time // when it was last said that bytes are dropped
}

// Rescued is what came from one FIFO meanwhile.
type Rescued struct {
	note
	n   uint32
	dir string

	mu     sync.Mutex // guards what follows; taken before Rescue.mu
	owner  *Rescue
	parts  []part
	end    uint64 // bytes that have come from the FIFO
	active *os.File
}

// note is the file that says what a FIFO is. Info is what the engine said of
// the container, missing where it had said so before this plugin began.
type note struct {
	FIFO string          `json:"fifo"`
	Info json.RawMessage `json:"info,omitempty"`
}

// part is a file: a run of bytes, from an offset in what the FIFO brought.
type part struct {
	offset uint64
	size   int64
}

func (r *Rescued) path(p part) string {
	return filepath.Join(r.dir, fmt.Sprintf("%08x-%016x%s", r.n, p.offset, partExt))
}

func (r *Rescued) notePath() string {
	return filepath.Join(r.dir, fmt.Sprintf("%08x%s", r.n, noteExt))
}

// OpenRescue opens the folder in the spool at dir. Config.MaxBytes bounds it.
func OpenRescue(dir string, cfg Config, log *slog.Logger) (*Rescue, error) {
	r := &Rescue{dir: filepath.Join(dir, rescueDir), cfg: cfg, log: log, all: map[string]*Rescued{}}
	if err := cfg.disk.mkdirAll(r.dir); err != nil {
		return nil, fmt.Errorf("make the rescue folder: %w", err)
	}
	all, err := loadRescued(r.dir)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		one.owner = r
		r.all[one.FIFO] = one
		r.last = max(r.last, one.n)
		for _, p := range one.parts {
			r.used += p.size + overhead
		}
	}
	return r, nil
}

// loadRescued reads the folder, in the order in which its FIFOs came.
func loadRescued(dir string) ([]*Rescued, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list the rescue folder: %w", err)
	}
	byNumber := map[uint32]*Rescued{}
	for _, e := range entries { // sorted: a note comes behind its parts
		base := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		_, n, ok := parsePair("0-"+base[:min(8, len(base))], 32)
		if !ok {
			continue
		}
		one := byNumber[uint32(n)]
		if one == nil {
			one = &Rescued{n: uint32(n), dir: dir}
			byNumber[uint32(n)] = one
		}
		if err := one.load(e, base); err != nil {
			return nil, err
		}
	}
	var all []*Rescued
	for _, one := range byNumber {
		sort.Slice(one.parts, func(i, j int) bool { return one.parts[i].offset < one.parts[j].offset })
		for _, p := range one.parts {
			one.end = max(one.end, p.offset+uint64(p.size))
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b *Rescued) int { return int(a.n) - int(b.n) })
	return all, nil
}

func (r *Rescued) load(e os.DirEntry, base string) error {
	switch filepath.Ext(e.Name()) {
	case noteExt:
		data, err := os.ReadFile(filepath.Join(r.dir, e.Name()))
		if err == nil {
			err = json.Unmarshal(data, &r.note)
		}
		if err != nil {
			return fmt.Errorf("read %s of the rescue folder: %w", e.Name(), err)
		}
	case partExt:
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("look at %s of the rescue folder: %w", e.Name(), err)
		}
		if _, offset, ok := parsePair("0-"+base[min(9, len(base)):], 64); ok {
			r.parts = append(r.parts, part{offset, info.Size()})
		}
	}
	return nil
}

// FIFOs returns the paths that are known.
func (r *Rescue) FIFOs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for path := range r.all {
		all = append(all, path)
	}
	return all
}

// Used returns how many bytes the folder takes and how many were dropped.
func (r *Rescue) Used() (used, dropped int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, r.dropped
}

// Take makes a place for what comes from a FIFO, or returns the one there is.
// It is on the disk when Take returns. info may be nil.
func (r *Rescue) Take(fifo string, info json.RawMessage) (*Rescued, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.all[fifo]
	if one != nil && (info == nil || one.Info != nil) {
		return one, nil
	}
	if one == nil {
		one = &Rescued{n: r.last + 1, dir: r.dir, owner: r, note: note{FIFO: fifo}}
	}
	data, err := json.Marshal(note{fifo, info})
	if err == nil {
		err = r.cfg.disk.replace(one.notePath(), data)
	}
	if err != nil {
		return nil, fmt.Errorf("note a FIFO: %w", err)
	}
	one.Info = info
	r.last = max(r.last, one.n)
	r.all[fifo] = one
	return one, nil
}

// Splice is Session.Splice, into the rescue folder. What the folder or its
// disk cannot take is dropped and counted, for containers must not wait.
func (r *Rescued) Splice(fd, max int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := readable(fd); err != nil {
		return 0, ignoreEOF(err)
	}
	err := r.roll()
	if err == nil {
		last := &r.parts[len(r.parts)-1]
		var n int64
		if n, err = r.owner.cfg.disk.splice(fd, r.active, last.size, min(max, int(r.owner.cfg.SegmentBytes-last.size))); err == nil {
			last.size += n
			r.end += uint64(n)
			r.owner.grew(n)
			return int(n), nil
		}
	}
	r.closePart()
	n, rerr := unix.Read(fd, make([]byte, min(max, 64<<10)))
	if rerr != nil {
		return 0, rerr
	}
	r.end += uint64(n)
	r.owner.drop(int64(n), err)
	return n, nil
}

var errRescueFull = errors.New("the rescue folder is full")

// roll opens the part to write.
func (r *Rescued) roll() error {
	last := len(r.parts) - 1
	next := last < 0 || r.parts[last].size >= r.owner.cfg.SegmentBytes || r.parts[last].offset+uint64(r.parts[last].size) != r.end
	if r.active != nil && !next {
		return nil
	}
	r.closePart()
	if !r.owner.room() {
		return errRescueFull
	}
	p := part{offset: r.end}
	if !next {
		p = r.parts[last]
	}
	f, err := r.owner.cfg.disk.open(r.path(p), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("open a file of the rescue folder: %w", err)
	}
	r.active = f
	if next {
		r.parts = append(r.parts, p)
		r.owner.grew(overhead)
	}
	return nil
}

func (r *Rescued) closePart() {
	if r.active != nil {
		_ = r.active.Close() // holds nothing that a close could lose
		r.active = nil
	}
}

// Close closes the file that is open. What the FIFO brought stays.
func (r *Rescued) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closePart()
}

// End is Close for a FIFO that will bring nothing more. One that the engine
// named and that brought nothing leaves nothing, as one of docker logs.
func (r *Rescued) End() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closePart()
	o := r.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Info == nil || r.end > 0 {
		return nil
	}
	delete(o.all, r.FIFO)
	return o.cfg.disk.remove(r.notePath())
}

func (r *Rescue) grew(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += n
}

func (r *Rescue) room() bool {
	r.mu.Lock()
	used := r.used
	r.mu.Unlock()
	var fs unix.Statfs_t
	if r.cfg.MinFree > 0 && unix.Statfs(r.dir, &fs) == nil && int64(fs.Bavail)*fs.Bsize < r.cfg.MinFree {
		return false
	}
	return used+r.cfg.SegmentBytes <= r.cfg.MaxBytes
}

// sayEvery is how often it is said that bytes are dropped.
const sayEvery = time.Minute

func (r *Rescue) drop(n int64, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped += n
	if time.Since(r.said) > sayEvery {
		r.said = time.Now()
		r.log.Error("what containers write is dropped: it cannot be put aside", "bytes_so_far", r.dropped, "err", why)
	}
}

// Rescued returns what a plugin that could not read the spool has put aside, in
// the order in which FIFOs came.
func (s *Spool) Rescued() ([]*Rescued, error) { return loadRescued(filepath.Join(s.dir, rescueDir)) }

// Empty reports whether nothing came from the FIFO.
func (r *Rescued) Empty() bool { return len(r.parts) == 0 }

// Forget deletes what is known of a FIFO from which nothing came.
func (r *Rescued) Forget() error { return disk{}.remove(r.notePath()) }

// SessionOf returns the attached session that reads a FIFO, or nil.
func (s *Spool) SessionOf(fifo string) *Session {
	for _, st := range s.Streams() {
		for _, se := range st.Sessions() {
			if se.fifo == fifo {
				return se
			}
		}
	}
	return nil
}

// Adopt makes what was put aside of the session's FIFO part of its stream. It
// may be called again after a crash. The session must not be written yet.
func (se *Session) Adopt(r *Rescued) error {
	st := se.st
	st.wmu.Lock()
	defer st.wmu.Unlock()
	if err := st.settleJump(); err != nil {
		return err
	}
	at := uint64(0)
	if len(r.parts) > 0 {
		at = r.parts[0].offset // the first ones may be adopted already
	}
	for _, p := range r.parts {
		if err := se.adoptPart(r.path(p), p.offset-at, p.size); err != nil {
			return fmt.Errorf("take over what was put aside: %w", err)
		}
		at = p.offset + uint64(p.size)
	}
	st.trim()
	return st.sp.cfg.disk.remove(r.notePath())
}

// adoptPart makes one file a segment, behind so many bytes that are missing.
func (se *Session) adoptPart(path string, missing uint64, size int64) error {
	st := se.st
	if size == 0 {
		return st.sp.cfg.disk.remove(path)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	begins := missing == 0 && (st.writer != se.n || st.clean)
	g := segment{offset: st.end + missing, session: se.n, size: size, wrote: time.Now()}
	if err := st.sp.cfg.disk.rename(path, filepath.Join(st.dir, g.name())); err != nil {
		return err
	}
	st.segs = append(st.segs, g)
	st.end, st.writer, st.sealed, st.clean = g.end(), se.n, false, false
	st.sp.used.Add(size + overhead)
	st.recountLocked()
	if begins {
		st.markLocked(&st.segs[len(st.segs)-1], Place{Offset: g.offset})
	}
	st.notifyLocked()
	return nil
}
