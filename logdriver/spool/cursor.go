package spool

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// cursor is how far one route has acknowledged a stream, kept in a file of
// fixed length that is overwritten in place: 16 hexadecimal digits of the
// offset, a space, 8 of their CRC-32 (IEEE), a newline.
type cursor struct {
	path   string
	offset uint64
	disk   disk
	file   *os.File // open while the cursor moves
	torn   bool     // the file did not check when it was read
}

const cursorFormat = "%016x %08x\n"

func (c *cursor) encode() []byte {
	off := fmt.Sprintf("%016x", c.offset)
	return fmt.Appendf(nil, cursorFormat, c.offset, crc32.ChecksumIEEE([]byte(off)))
}

// loadCursor reads a cursor. One that a power cut has torn counts as standing
// at the oldest frame there is: what is still spooled is sent again, which
// costs duplicates and loses nothing.
func loadCursor(d disk, path string) *cursor {
	c := &cursor{disk: d, path: path, torn: true}
	data, err := os.ReadFile(path)
	if err != nil {
		return c
	}
	var off uint64
	var sum uint32
	if _, err := fmt.Sscanf(string(data), cursorFormat, &off, &sum); err != nil {
		return c
	}
	if crc32.ChecksumIEEE(fmt.Appendf(nil, "%016x", off)) == sum {
		c.offset, c.torn = off, false
	}
	return c
}

func (c *cursor) store() error {
	if c.file == nil {
		f, err := c.disk.open(c.path, os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return fmt.Errorf("open a cursor: %w", err)
		}
		c.file = f
	}
	if err := c.disk.writeAt(c.file, c.encode(), 0); err != nil {
		return fmt.Errorf("write a cursor: %w", err)
	}
	return nil
}

func (c *cursor) close() {
	if c.file != nil {
		_ = c.file.Close()
		c.file = nil
	}
}

var routeName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// AddRoute makes sure that the route has a cursor; a new one begins at the
// oldest byte there is. What a route has not acknowledged is not evicted while
// there is room.
func (st *Stream) AddRoute(route string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.routeLocked(route)
}

func (st *Stream) routeLocked(route string) error {
	if st.cursors[route] != nil || st.gone {
		return nil
	}
	if !routeName.MatchString(route) {
		return fmt.Errorf("route name %q does not match %s", route, routeName)
	}
	c := &cursor{disk: st.sp.cfg.disk, path: filepath.Join(st.dir, route+cursorExt), offset: st.startLocked()}
	if err := c.store(); err != nil {
		return err
	}
	c.close()
	st.cursors[route] = c
	return nil
}

// RemoveRoute forgets the route's cursor: nothing waits for it any more.
func (st *Stream) RemoveRoute(route string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.cursors[route]
	if c == nil {
		return nil
	}
	c.close()
	if err := st.sp.cfg.disk.remove(c.path); err != nil {
		return fmt.Errorf("remove a cursor: %w", err)
	}
	delete(st.cursors, route)
	return nil
}

// HasRoute reports whether the route has a cursor in the stream.
func (st *Stream) HasRoute(route string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.cursors[route] != nil
}

// Cursor returns the offset up to which the route has acknowledged the stream.
func (st *Stream) Cursor(route string) uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	if c := st.cursors[route]; c != nil {
		return c.offset
	}
	return 0
}

// Backlog returns how many bytes of the stream the route has not acknowledged,
// and since when about the oldest of them has waited; the zero time for none.
func (st *Stream) Backlog(route string) (bytes uint64, since time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.cursors[route]
	if c == nil {
		return 0, time.Time{}
	}
	for _, g := range st.segs {
		if g.end() <= c.offset {
			continue
		}
		bytes += g.end() - max(g.offset, c.offset)
		if !since.IsZero() {
			continue
		}
		since = g.wrote
		if g.offset >= c.offset && g.first.Time != 0 {
			since = time.Unix(0, g.first.Time)
		}
	}
	return bytes, since
}

// Ack moves the route's cursor on to offset. It never moves back.
func (st *Stream) Ack(route string, offset uint64) error {
	st.mu.Lock()
	c := st.cursors[route]
	if c == nil || st.gone || offset <= c.offset {
		st.mu.Unlock()
		return nil
	}
	c.offset = offset
	err := c.store()
	idle := offset == st.end
	if idle {
		c.close() // a quiet stream holds no descriptor
	}
	evictable := st.evictableLocked() > 0
	st.mu.Unlock()
	if evictable {
		st.trim()
	}
	return err
}
