package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// dropExt ends the name of a file that says which offsets were given to bytes
// that were taken from a pipe and not kept. Without it, a process that is
// killed meanwhile would leave no sign of them, and a stream that ends with
// them none at all.
const (
	dropExt    = ".drop"
	dropFormat = "%016x %016x %08x\n" // end, records, CRC-32 (IEEE) of what stands before it
	dropBuffer = 64 << 10
)

// drop is a run of offsets whose bytes were dropped.
type drop struct {
	from, to uint64
	session  uint32
	records  uint64
	synced   uint64 // to, as it would survive a power cut
}

func (d drop) name() string { return fmt.Sprintf("%016x-%08x%s", d.from, d.session, dropExt) }

func (d drop) encode() []byte {
	b := fmt.Appendf(nil, "%016x %016x ", d.to, d.records)
	return fmt.Appendf(b, "%08x\n", crc32.ChecksumIEEE(b))
}

// dropping is a drop that goes on.
type dropping struct {
	buf  []byte
	file *os.File // nil where it could not be made
	cut  cutter
	why  *dropCounters
}

func (st *Stream) recoverDrop(name, base string) error {
	from, n, ok := parsePair(base, 32)
	if !ok {
		st.odd(name)
		return nil
	}
	data, err := os.ReadFile(filepath.Join(st.dir, name))
	if err != nil {
		return fmt.Errorf("read what was dropped, %s: %w", name, err)
	}
	d := drop{from: from, to: from, session: uint32(n)}
	var to, records uint64
	var sum uint32
	if _, err := fmt.Sscanf(string(data), dropFormat, &to, &records, &sum); err == nil && to >= from {
		if d.to, d.records = to, records; fmt.Sprintf("%08x", sum) != string(d.encode()[34:42]) {
			d.to, d.records = from, 0 // torn by a power cut
		}
	}
	st.drops = append(st.drops, d)
	st.last = max(st.last, d.session)
	st.sp.used.Add(overhead)
	return nil
}

// Discard takes up to max bytes from the pipe and drops them: the last resort
// when the disk takes nothing, because a pipe that is not read stops the
// container and the engine's calls about it. What is dropped leaves a gap in
// the stream's offsets and is counted.
func (se *Session) Discard(fd int, max int) (int, error) {
	st := se.st
	st.wmu.Lock()
	defer st.wmu.Unlock()
	if err := se.mayWrite(); err != nil {
		return 0, err
	}
	if st.dropping == nil {
		if err := readable(fd); err != nil {
			return 0, ignoreEOF(err)
		}
		se.beginDrop(&st.sp.dropped.disk, "the disk does not take them")
	}
	return se.discard(fd, max)
}

// dropNewest is Splice where what comes is not to be kept. Where it can, it
// begins and ends between two frames.
func (se *Session) dropNewest(fd, max int) (int, error) {
	st := se.st
	if st.dropping == nil {
		if err := readable(fd); err != nil {
			return 0, ignoreEOF(err)
		}
		if _, missing, _ := se.openFrame(); missing > 0 {
			if n, err := se.spliceTo(fd, missing); err == nil && n > 0 {
				return n, nil // the rest of the last record that is kept, or a part of it
			}
		}
		se.beginDrop(&st.sp.dropped.newest, "the spool is full")
	}
	return se.discard(fd, max)
}

// openFrame returns where the frame begins in which the stream ends, how many
// bytes of it are missing, at least, and whether that is known. Where it ends
// between two frames nothing is missing.
func (se *Session) openFrame() (begin uint64, missing int, known bool) {
	st := se.st
	st.mu.Lock()
	defer st.mu.Unlock()
	i := len(st.segs) - 1
	if st.writer != se.n || i >= 0 && (st.segs[i].session != se.n || st.segs[i].end() != st.end) {
		return st.end, 0, true // the session begins here, or goes on after a drop
	}
	for i >= 0 && !st.segs[i].known {
		i--
	}
	if i < 0 || st.sp.cfg.FrameLen == nil {
		return st.end, 0, false
	}
	begin, next, err := st.walk(i, st.end)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return begin, 1, true // of the header
	}
	return begin, int(next - st.end), err == nil
}

// beginDrop is called with wmu held.
func (se *Session) beginDrop(why *dropCounters, reason string) {
	st := se.st
	begin, missing, known := se.openFrame()
	st.closeActive() // the gap lies between segments
	st.mu.Lock()
	defer st.mu.Unlock()
	st.dropping = &dropping{buf: make([]byte, dropBuffer), why: why, cut: cutter{frameLen: st.sp.cfg.FrameLen, lost: !known || st.sp.cfg.FrameLen == nil}}
	if missing > 0 {
		st.tearOffLocked(begin)
	}
	d := drop{from: st.end, to: st.end, session: se.n}
	f, err := st.sp.cfg.disk.open(filepath.Join(st.dir, d.name()), os.O_WRONLY|os.O_CREATE)
	if err == nil {
		st.dropping.file = f
	}
	st.drops = append(st.drops, d)
	st.recountLocked()
	st.writer = se.n
	st.sp.used.Add(overhead)
	st.log().Error("a container's records are dropped: " + reason)
}

// tearOffLocked takes back what is spooled of a frame whose rest is not going
// to be, so that it counts as dropped and not as damaged.
func (st *Stream) tearOffLocked(begin uint64) {
	d := st.dropping
	d.cut.lost = true // unless all goes well
	i := len(st.segs) - 1
	for i > 0 && st.segs[i].offset > begin {
		i--
	}
	head := make([]byte, st.end-begin)
	if n, err := st.readAcross(i, begin, head); err != nil || n < len(head) {
		return
	}
	for last := len(st.segs) - 1; last > i; last-- {
		g := st.segs[last]
		if st.sp.cfg.disk.remove(filepath.Join(st.dir, g.name())) != nil {
			return
		}
		st.segs = st.segs[:last]
		st.sp.used.Add(-g.size - overhead)
	}
	g := &st.segs[i]
	part := int64(g.end() - begin)
	if st.sp.cfg.disk.shorten(filepath.Join(st.dir, g.name()), g.size-part) != nil {
		return
	}
	g.size -= part
	g.synced = min(g.synced, g.size)
	st.sp.used.Add(-part)
	d.cut.lost = false
	d.cut.add(head)
	d.why.bytes.Add(int64(len(head)))
	d.why.records.Add(int64(d.cut.frames))
}

// discard reads and forgets. It is called with wmu held, after beginDrop.
func (se *Session) discard(fd, max int) (int, error) {
	st := se.st
	d := st.dropping
	n, err := unix.Read(fd, d.buf[:min(max, len(d.buf))])
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, d.buf[:min(max, len(d.buf))])
	}
	if err != nil || n == 0 {
		return 0, err
	}
	before := d.cut.frames
	d.cut.add(d.buf[:n])
	d.why.bytes.Add(int64(n))
	d.why.records.Add(int64(d.cut.frames - before))
	st.mu.Lock()
	defer st.mu.Unlock()
	st.end += uint64(n)
	last := &st.drops[len(st.drops)-1]
	last.to, last.records = st.end, d.cut.frames
	if d.file != nil {
		_ = st.sp.cfg.disk.writeAt(d.file, last.encode(), 0) // what cannot be written is known while we live
	}
	return n, nil
}

// endDrop is called with wmu held.
func (st *Stream) endDrop() {
	d := st.dropping
	if d == nil {
		return
	}
	st.dropping = nil
	if d.file != nil {
		_ = d.file.Close()
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.clean = !d.cut.lost && d.cut.want() == 0
	last := st.drops[len(st.drops)-1]
	st.log().Warn("a container's records are kept again", "dropped_bytes", last.to-last.from, "dropped_records", last.records)
	st.forgetDropsLocked()
}

// forgetDropsLocked deletes what every route has been told.
func (st *Stream) forgetDropsLocked() {
	if len(st.drops) == 0 || st.dropping != nil {
		return
	}
	acked := st.ackedLocked()
	st.drops = slices.DeleteFunc(st.drops, func(d drop) bool {
		if d.to > acked {
			return false
		}
		if err := st.sp.cfg.disk.remove(filepath.Join(st.dir, d.name())); err != nil {
			return false // the next one who passes tries again
		}
		st.sp.used.Add(-overhead)
		return true
	})
}

// newsLocked returns the drop that has to be there before a stream's last
// segment is evicted: nil where every route has all of it, or another drop says
// so already. Without it nobody would be told, and a process that is killed
// would give the same offsets to other bytes.
func (st *Stream) newsLocked(last segment) *drop {
	if last.end() <= st.ackedLocked() || slices.ContainsFunc(st.drops, func(d drop) bool { return d.to >= last.end() }) {
		return nil
	}
	return &drop{from: last.offset, to: last.end(), session: last.session}
}

// writeNews reports whether the drop is on the disk.
func (st *Stream) writeNews(d *drop) bool {
	return st.sp.cfg.disk.replace(filepath.Join(st.dir, d.name()), d.encode()) == nil
}

// evictedLocked notes that nothing is left of a stream but a drop, which may be
// on the disk. Those before it say nothing that it does not.
func (st *Stream) evictedLocked(d drop, written bool) {
	written = written || st.writeNews(&d) // a full disk has room now
	before := st.drops
	st.drops = []drop{d}
	st.sp.used.Add(overhead)
	for _, b := range before {
		same := b.name() == d.name()
		if !same && (!written || st.sp.cfg.disk.remove(filepath.Join(st.dir, b.name())) != nil) {
			st.drops = slices.Insert(st.drops, len(st.drops)-1, b)
			continue
		}
		st.sp.used.Add(-overhead)
	}
	if !written {
		st.log().Error("it could not be noted what is dropped: it is not told if the plugin is killed now")
	}
	st.notifyLocked()
}

// tailLoss returns what was dropped behind the stream's last byte, once it is
// certain that nothing follows: the offset behind it and the session. A reader
// at offset that has been there gets 0.
func (st *Stream) tailLoss(offset uint64) (lost, end uint64, session uint32) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.drops) == 0 || st.gone || st.sessions[st.writer] != nil {
		return 0, 0, 0
	}
	d := st.drops[len(st.drops)-1]
	if d.to <= offset {
		return 0, 0, 0
	}
	return st.lostLocked(offset, d.to), d.to, d.session
}

// cutter follows frames through bytes that nobody keeps.
type cutter struct {
	frameLen func([]byte) (int, error)
	head     []byte // of a frame whose length is not known yet
	left     int    // bytes of a frame that are still to come
	frames   uint64 // that began
	lost     bool   // it is not known where frames begin
}

func (c *cutter) add(b []byte) {
	for len(b) > 0 && !c.lost {
		if c.left > 0 {
			n := min(c.left, len(b))
			c.left -= n
			b = b[n:]
			continue
		}
		c.head = append(c.head, b[0])
		b = b[1:]
		size, err := c.frameLen(c.head)
		switch {
		case err != nil:
			c.lost = true
		case size > 0:
			c.left, c.head = size-len(c.head), c.head[:0]
			c.frames++
		}
	}
}

// want is how many bytes, at least, are missing to the end of the frame that
// was begun; 0 between frames, and where nobody knows.
func (c *cutter) want() int {
	switch {
	case c.lost:
		return 0
	case len(c.head) > 0:
		return 1
	}
	return c.left
}

// shorten cuts the end off a file.
func (d disk) shorten(path string, size int64) error {
	if err := d.check("truncate"); err != nil {
		return err
	}
	return d.did(change{op: "truncate", path: path, n: size}, os.Truncate(path, size))
}
