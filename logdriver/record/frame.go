// Package record knows what a byte of the engine's stream means: it cuts the
// stream into frames, decodes the log entry in a frame, finds the next frame
// after corruption, and joins the chunks of a long line into one record.
//
// It stands behind the spool on the data path: nothing in front of it looks
// into the bytes. It is also the only package that sees the engine's protobuf
// types, which it writes when `docker logs` asks for records back.
package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// HeaderLen is the length of what stands before each frame: its size,
	// uint32 big-endian (moby api/types/plugins/logdriver/io.go).
	HeaderLen = 4

	// MaxFrame bounds a frame in bytes. The engine cuts lines at 16 KiB
	// (moby daemon/logger/copier.go), what comes beside the line is small.
	MaxFrame = 1 << 20
)

var (
	// ErrShort means that the frame is not complete yet.
	ErrShort = errors.New("frame is not complete")
	// ErrCorrupt means that the bytes cannot be a frame.
	ErrCorrupt = errors.New("corrupt frame")
)

// Next returns the frame at the start of b, without its header, and the
// number of bytes that header and frame take. The error is ErrShort where more
// bytes are needed, or wraps ErrCorrupt where no frame can begin here: no
// frame is empty, and none is larger than MaxFrame.
func Next(b []byte) (frame []byte, n int, err error) {
	n, err = Size(b)
	if err != nil {
		return nil, 0, err
	}
	if n == 0 || len(b) < n {
		return nil, 0, ErrShort
	}
	return b[HeaderLen:n], n, nil
}

// Size returns the length of the frame at the start of b with its header,
// which may be more than b holds, or 0 where b is too short to tell.
func Size(b []byte) (int, error) {
	if len(b) < HeaderLen {
		return 0, nil
	}
	size := binary.BigEndian.Uint32(b)
	if size == 0 || size > MaxFrame {
		return 0, fmt.Errorf("%w: length %d is not in 1..%d", ErrCorrupt, size, MaxFrame)
	}
	return HeaderLen + int(size), nil
}

// resyncFrames is how many good frames in a row make a place in corrupt data
// believable as a frame boundary, unless the data ends first.
const resyncFrames = 3

// Resync finds the next place in b, behind its first byte, at which frames that
// decode well follow each other, and returns how many bytes stand before it.
// Where there is none it returns false and the number of bytes that certainly
// belong to no frame: the rest may be the beginning of one whose end is not in b.
func Resync(b []byte) (skip int, ok bool) {
	var e Entry
	maybe := len(b)
	for i := 1; i < len(b); i++ {
		if !CouldBegin(b[i:]) {
			continue
		}
		if plausible(b[i:], &e) {
			return i, true
		}
		if _, _, err := Next(b[i:]); errors.Is(err, ErrShort) {
			maybe = min(maybe, i)
		}
	}
	return maybe, false
}

// The first field of every entry, as the engine writes it.
var firstFields = [][]byte{[]byte("\x0a\x06stdout"), []byte("\x0a\x06stderr")}

// CouldBegin reports whether a frame of the engine's may begin with b, which
// is not empty, as far as b goes.
func CouldBegin(b []byte) bool {
	if n, err := Size(b); err != nil {
		return false
	} else if n == 0 {
		return b[0] == 0 // a size below 16 MiB
	}
	for _, first := range firstFields {
		if n := min(len(b)-HeaderLen, len(first)); bytes.Equal(b[HeaderLen:HeaderLen+n], first[:n]) {
			return true
		}
	}
	return false
}

func plausible(b []byte, e *Entry) bool {
	for good := range resyncFrames {
		frame, n, err := Next(b)
		if errors.Is(err, ErrShort) {
			return good > 0
		}
		if err != nil || e.Decode(frame) != nil || e.Time == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}
