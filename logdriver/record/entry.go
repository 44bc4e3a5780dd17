package record

import (
	"errors"
	"fmt"
	"io"
)

// Entry is one decoded log entry: a whole line, or a chunk of one. Its byte
// slices point into the frame it was decoded from.
type Entry struct {
	Time    int64 // nanoseconds since 1970
	Line    []byte
	ID      []byte // which line a chunk belongs to; empty for a whole line
	Ordinal int32  // place of a chunk in its line, from 1
	Stderr  bool
	Partial bool // a chunk: more of the line may follow
	Last    bool // the last chunk of its line (Partial is set on it, too)
}

// Field numbers and wire types of moby's api/types/plugins/logdriver/entry.proto.
const (
	fieldSource   = 1
	fieldTime     = 2
	fieldLine     = 3
	fieldPartial  = 4
	fieldMetadata = 5

	metaLast    = 1
	metaID      = 2
	metaOrdinal = 3

	wireVarint = 0
	wireI64    = 1
	wireBytes  = 2
	wireGroup  = 3
	wireEnd    = 4
	wireI32    = 5
)

var (
	errVarint = errors.New("varint is longer than 64 bits")
	errSource = errors.New("source is neither stdout nor stderr")
)

// Decode sets e from one frame, in place and without allocating. It takes
// every frame that the engine's own decoder takes and whose source is stdout
// or stderr, and gives the same values (a fuzz test holds it to that).
// Errors wrap ErrCorrupt.
func (e *Entry) Decode(frame []byte) error {
	*e = Entry{}
	if err := e.decode(frame); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

func (e *Entry) decode(b []byte) error {
	source := []byte(nil)
	for len(b) > 0 {
		field, wire, n, err := tag(b)
		if err != nil {
			return err
		}
		var v uint64
		var data []byte
		var used int
		switch field {
		case fieldSource, fieldLine, fieldMetadata:
			data, used, err = bytesField(b[n:], wire)
		case fieldTime, fieldPartial:
			v, used, err = varintField(b[n:], wire)
		default:
			used, err = skip(b[n:], wire)
		}
		if err != nil {
			return err
		}
		b = b[n+used:]
		switch field {
		case fieldSource:
			source = data
		case fieldLine:
			e.Line = data
		case fieldTime:
			e.Time = int64(v)
		case fieldPartial:
			e.Partial = v != 0
		case fieldMetadata:
			if err := e.decodeMetadata(data); err != nil {
				return err
			}
		}
	}
	return e.setSource(source)
}

func (e *Entry) setSource(source []byte) error {
	switch string(source) {
	case "stdout":
	case "stderr":
		e.Stderr = true
	default:
		return errSource
	}
	return nil
}

func (e *Entry) decodeMetadata(b []byte) error {
	for len(b) > 0 {
		field, wire, n, err := tag(b)
		if err != nil {
			return err
		}
		var v uint64
		var data []byte
		var used int
		switch field {
		case metaLast, metaOrdinal:
			v, used, err = varintField(b[n:], wire)
		case metaID:
			data, used, err = bytesField(b[n:], wire)
		default:
			used, err = skip(b[n:], wire)
		}
		if err != nil {
			return err
		}
		b = b[n+used:]
		switch field {
		case metaLast:
			e.Last = v != 0
		case metaID:
			e.ID = data
		case metaOrdinal:
			e.Ordinal = int32(v)
		}
	}
	return nil
}

func tag(b []byte) (field int32, wire int, n int, err error) {
	v, n, err := uvarint(b)
	if err != nil {
		return 0, 0, 0, err
	}
	field, wire = int32(v>>3), int(v&7)
	if field <= 0 || wire == wireEnd {
		return 0, 0, 0, fmt.Errorf("tag %d is not a field's", v)
	}
	return field, wire, n, nil
}

func uvarint(b []byte) (v uint64, n int, err error) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1, nil
	}
	for shift := uint(0); shift < 64; shift += 7 {
		if n >= len(b) {
			return 0, 0, io.ErrUnexpectedEOF
		}
		c := b[n]
		n++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, n, nil
		}
	}
	return 0, 0, errVarint
}

func varintField(b []byte, wire int) (uint64, int, error) {
	if wire != wireVarint {
		return 0, 0, fmt.Errorf("wire type %d where a varint belongs", wire)
	}
	return uvarint(b)
}

func bytesField(b []byte, wire int) ([]byte, int, error) {
	if wire != wireBytes {
		return nil, 0, fmt.Errorf("wire type %d where bytes belong", wire)
	}
	size, n, err := uvarint(b)
	if err != nil {
		return nil, 0, err
	}
	if size > uint64(len(b)-n) {
		return nil, 0, io.ErrUnexpectedEOF
	}
	end := n + int(size)
	return b[n:end], end, nil
}

// skip returns the length of an unknown field's value, groups included.
func skip(b []byte, wire int) (int, error) {
	at, depth := 0, 0
	for {
		n, err := skipOne(b[at:], wire, &depth)
		if err != nil {
			return 0, err
		}
		at += n
		if depth == 0 {
			return at, nil
		}
		v, n, err := uvarint(b[at:])
		if err != nil {
			return 0, err
		}
		at, wire = at+n, int(v&7)
	}
}

func skipOne(b []byte, wire int, depth *int) (n int, err error) {
	switch wire {
	case wireVarint:
		_, n, err = uvarint(b)
	case wireI64:
		n = 8
	case wireI32:
		n = 4
	case wireBytes:
		_, n, err = bytesField(b, wire)
	case wireGroup:
		*depth++
	case wireEnd:
		*depth--
	default:
		err = fmt.Errorf("wire type %d does not exist", wire)
	}
	if err == nil && n > len(b) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
