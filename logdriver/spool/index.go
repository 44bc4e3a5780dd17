package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// The index of a stream says where the first frame of each segment begins, so
// that a reader can start at any segment. Entries are appended by whoever
// learns one: a new session (its first byte begins a frame), a reader that
// passes from one segment to the next, an eviction that is about to delete the
// bytes from which the place could be found.
const (
	indexFile = "index"
	entryLen  = 28 // segment offset, boundary offset, time, CRC-32 of those, little-endian
)

// Place is where a frame begins, and when its record was written.
type Place struct {
	Offset uint64
	Time   int64 // nanoseconds since 1970; 0 where it is not known
}

func encodeEntry(segment uint64, p Place) []byte {
	b := binary.LittleEndian.AppendUint64(nil, segment)
	b = binary.LittleEndian.AppendUint64(b, p.Offset)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Time))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// loadIndex reads what there is of the index. What does not check is left out:
// the index can be made again from the segments.
func (st *Stream) loadIndex() (map[uint64]Place, error) {
	data, err := os.ReadFile(filepath.Join(st.dir, indexFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	places := map[uint64]Place{}
	for len(data) >= entryLen {
		if crc32.ChecksumIEEE(data[:entryLen-4]) != binary.LittleEndian.Uint32(data[entryLen-4:]) {
			data = data[1:] // an entry may have been cut off in the middle
			continue
		}
		places[binary.LittleEndian.Uint64(data)] = Place{binary.LittleEndian.Uint64(data[8:]), int64(binary.LittleEndian.Uint64(data[16:]))}
		data = data[entryLen:]
	}
	return places, nil
}

// Mark tells that the first frame of the segment that begins at edge begins
// at p. Telling it again, or of a segment that is gone, does nothing.
func (st *Stream) Mark(edge uint64, p Place) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for i := len(st.segs) - 1; i >= 0 && st.segs[i].offset >= edge; i-- {
		if st.segs[i].offset == edge {
			st.markLocked(&st.segs[i], p)
		}
	}
}

func (st *Stream) markLocked(g *segment, p Place) {
	if g.known && (g.first.Time != 0 || p.Time == 0) || st.gone {
		return
	}
	g.known, g.first = true, p
	f, err := st.sp.cfg.disk.open(filepath.Join(st.dir, indexFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	if err == nil {
		err = errors.Join(st.sp.cfg.disk.append(f, encodeEntry(g.offset, p)), f.Close())
	}
	if err != nil {
		st.log().Warn("an index entry could not be written; reading from there will be slower after a restart", "err", err)
	}
}

// Places returns where reading may begin: one place for each segment whose
// first frame is known, in order. The first is that of the oldest record.
func (st *Stream) Places() []Place {
	st.mu.Lock()
	defer st.mu.Unlock()
	var all []Place
	for _, g := range st.segs {
		if g.known && g.first.Offset < g.end() {
			all = append(all, g.first)
		}
	}
	return all
}

// locateFrames makes sure that the first frame of the segment at i is known,
// walking there from one before it that is. It is called with mu held, when
// the way there is about to be deleted, which is seldom: whoever has read the
// stream has left a mark.
func (st *Stream) locateFrames(i int) {
	if i >= len(st.segs) || st.segs[i].known || st.sp.cfg.FrameLen == nil {
		return
	}
	from := i - 1
	for from >= 0 && !st.segs[from].known {
		from--
	}
	if from < 0 {
		return
	}
	_, p, err := st.walk(from, st.segs[i].offset)
	if err != nil {
		st.log().Warn("the first record of a segment was not found; reading will look for it", "segment", st.segs[i].name(), "err", err)
		return
	}
	st.markLocked(&st.segs[i], Place{Offset: p})
}

// walk returns where the last frame before target and the first one at or
// behind it begin, going from frame to frame from the segment at i, whose first
// frame is known. The error is io.ErrUnexpectedEOF where the last frame's header
// is not whole.
func (st *Stream) walk(i int, target uint64) (last, at uint64, err error) {
	at = st.segs[i].first.Offset
	last = at
	buf := make([]byte, 64<<10)
	for at < target {
		n, err := st.readAcross(i, at, buf)
		if err != nil {
			return last, at, err
		}
		moved := uint64(0)
		for moved < uint64(n) && at+moved < target {
			size, err := st.sp.cfg.FrameLen(buf[moved:n])
			if err != nil {
				return last, at, err
			}
			if size == 0 {
				break
			}
			last = at + moved
			moved += uint64(size)
		}
		if moved == 0 {
			return at, at, io.ErrUnexpectedEOF // the header is not there yet
		}
		at += moved
	}
	return last, at, nil
}

// readAcross reads from the segment at i and those that follow it.
func (st *Stream) readAcross(i int, at uint64, buf []byte) (int, error) {
	got := 0
	for ; i < len(st.segs) && got < len(buf); i++ {
		g := st.segs[i]
		if at >= g.end() {
			continue
		}
		f, err := os.Open(filepath.Join(st.dir, g.name()))
		if err != nil {
			return got, fmt.Errorf("open segment: %w", err)
		}
		n, err := f.ReadAt(buf[got:], int64(at-g.offset))
		f.Close()
		if err != nil && !errors.Is(err, io.EOF) {
			return got, fmt.Errorf("read segment: %w", err)
		}
		got += n
		at += uint64(n)
	}
	return got, nil
}
