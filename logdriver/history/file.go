package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The file begins with a header of headerBytes:
//
//	8 bytes  magic
//	int64    since when the disk has not taken what was to be written; 0: it has
//	uint32   CRC-32C of that
//
// and goes on with entries:
//
//	uint16   bytes of the payload
//	uint32   CRC-32C of the payload
//	payload  its first byte is the kind; then varints, and texts with their length before them
//
// Numbers of fixed size are little-endian. An entry of a stream, a pair or a span
// takes the place of an earlier one with its number. Each prefix of the file is
// a history that says no less than what had happened when it was written: what
// an entry refers to stands before it, and what makes one superfluous too. The
// file is written anew when it has grown too large.
const (
	magic       = "dlplace1"
	headerBytes = len(magic) + 8 + 4
	frameBytes  = 2 + 4

	// Of MaxBytes, in shares: what is alive may take so much of the file, and
	// the file so much before it is written anew, beside itself.
	shares    = 8
	liveShare = 3
	fileShare = 5

	maxText = 4 << 10 // of a name, in bytes
	maxGaps = 16
)

// Kinds of entries.
const (
	kindBoot   = 'b' // text: this boot of the machine begins to write
	kindTime   = 't' // varint: what follows was written at or behind that time
	kindClean  = 'z' // nothing: the process ended in order
	kindSince  = 'h' // varint: what was acknowledged before may have been forgotten
	kindGap    = 'g' // varint, varint, text
	kindStream = 's' // number, text id, container, name, varint created, since
	kindPair   = 'c' // number, text pool, collector
	kindSpan   = 'i' // number, stream, pair, varint from, uvarint to last, to until, records, bytes, uncounted
	kindDrop   = 'x' // number of a span
	kindForget = 'f' // number of a stream, which goes with its spans
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// What entries take at most.
const spanCost = int64(frameBytes + 1 + 3*5 + 6*binary.MaxVarintLen64)

func streamCost(s *stream) int64 {
	return int64(frameBytes + 1 + 5 + 3*2 + 2*binary.MaxVarintLen64 + len(s.id) + len(s.owner) + len(s.name))
}

func pairCost(p *pair) int64 { return int64(frameBytes + 1 + 5 + 2*2 + len(p.pool) + len(p.name)) }

func appendHeader(b []byte, behind int64) []byte {
	b = append(b, magic...)
	return appendBehind(b, behind)
}

func appendBehind(b []byte, behind int64) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(behind))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// frame appends a payload as an entry.
func frame(b, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), maxText)]
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendNumber(b []byte, kind byte, n uint64) []byte {
	return binary.AppendUvarint(append(b, kind), n)
}

func appendStream(b []byte, s *stream) []byte {
	b = appendNumber(b, kindStream, s.num)
	b = appendText(appendText(appendText(b, s.id), s.owner), s.name)
	return binary.AppendVarint(binary.AppendVarint(b, s.created), s.since)
}

func appendPair(b []byte, p *pair) []byte {
	return appendText(appendText(appendNumber(b, kindPair, p.num), p.pool), p.name)
}

func appendSpan(b []byte, s *span) []byte {
	b = appendNumber(b, kindSpan, s.num)
	b = binary.AppendUvarint(binary.AppendUvarint(b, s.stream.num), s.pair.num)
	b = binary.AppendVarint(b, s.from)
	for _, n := range []uint64{uint64(s.last - s.from), uint64(s.until - s.last), s.records, s.bytes} {
		b = binary.AppendUvarint(b, n)
	}
	if s.uncounted {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendGap(b []byte, g Gap) []byte {
	b = binary.AppendVarint(append(b, kindGap), nano(g.From))
	return appendText(binary.AppendVarint(b, nano(g.To)), g.Why)
}

// errTorn means that the last entry was not written to its end.
var errTorn = errors.New("the last entry is not whole")

// DamageError says where a file cannot be understood.
type DamageError struct {
	Offset int64
	Why    string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the placement history is damaged at byte %d: %s", e.Offset, e.Why)
}

// nextEntry returns the payload of the entry at the start of b and what follows it.
func nextEntry(b []byte) (payload, rest []byte, err error) {
	if len(b) < frameBytes {
		return nil, b, errTorn
	}
	n := int(binary.LittleEndian.Uint16(b))
	if len(b) < frameBytes+n {
		return nil, b, errTorn
	}
	payload = b[frameBytes : frameBytes+n]
	if n == 0 || crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(b[2:]) {
		return nil, b, errors.New("an entry does not check")
	}
	return payload, b[frameBytes+n:], nil
}

// maxEntry is more than any entry has.
const maxEntry = frameBytes + 4*maxText

// holdsEntry reports whether there is an entry in what looks like one that was
// not written to its end: then its length is damaged.
func holdsEntry(b []byte) bool {
	if len(b) > maxEntry {
		return true
	}
	for at := 1; at < len(b); at++ {
		if _, _, err := nextEntry(b[at:]); err == nil {
			return true
		}
	}
	return false
}

// header reads the beginning of a file.
func header(b []byte) (behind int64, err error) {
	if len(b) < headerBytes || !bytes.HasPrefix(b, []byte(magic)) {
		return 0, &DamageError{0, "it does not begin as one that this dockline-log writes"}
	}
	slot := b[len(magic):headerBytes]
	behind = int64(binary.LittleEndian.Uint64(slot))
	if crc32.Checksum(slot[:8], castagnoli) != binary.LittleEndian.Uint32(slot[8:]) {
		return math.MinInt64, nil // it was being written: then it was not 0
	}
	return behind, nil
}

// fields takes a payload apart. After a field that is not there all are zero,
// and bad is set.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) skip(n int) {
	if n <= 0 || n > len(f.b) {
		f.bad, f.b = true, nil
		return
	}
	f.b = f.b[n:]
}

func (f *fields) uint() uint64 {
	v, n := binary.Uvarint(f.b)
	f.skip(n)
	return v
}

func (f *fields) int() int64 {
	v, n := binary.Varint(f.b)
	f.skip(n)
	return v
}

func (f *fields) text() string {
	n := f.uint()
	if n > maxText || n > uint64(len(f.b)) {
		f.bad = true
		return ""
	}
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s
}

func (f *fields) bool() bool {
	if len(f.b) == 0 {
		f.bad = true
		return false
	}
	v := f.b[0] != 0
	f.b = f.b[1:]
	return v
}
