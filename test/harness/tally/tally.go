// Package tally counts and digests lines, the same way where they are written
// and where they arrive, so that two small numbers tell whether everything came
// through, in order and byte for byte.
package tally

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Path is where the workload program leaves the tally of its container, as the
// JSON of an Output.
const Path = "/tally.json"

// Output is what one container wrote.
type Output struct {
	Stdout Lines `json:"stdout"`
	Stderr Lines `json:"stderr"`
}

// Of returns the part that belongs to a source, stdout or stderr.
func (o *Output) Of(source string) *Lines {
	if source == "stderr" {
		return &o.Stderr
	}
	return &o.Stdout
}

// Records is how many lines there are in both.
func (o *Output) Records() uint64 { return o.Stdout.Count + o.Stderr.Count }

// Lines is the tally of a sequence of lines, newlines not counting.
type Lines struct {
	Count uint64 `json:"count"`
	Bytes uint64 `json:"bytes"`
	Chain uint64 `json:"chain,string"` // digest of all lines in their order
}

// Hash digests one line.
func Hash(line []byte) uint64 { return xxhash.Sum64(line) }

// Add appends a line, given by its digest and length.
func (l *Lines) Add(hash uint64, length int) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], l.Chain)
	binary.BigEndian.PutUint64(b[8:], hash)
	l.Count++
	l.Bytes += uint64(length)
	l.Chain = xxhash.Sum64(b[:])
}

// Writer tallies what is written to it, cut into lines as the engine does: at
// newlines, what is left at the end being a line too.
type Writer struct {
	Lines
	rest []byte
}

// Write never fails.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.rest = append(w.rest, p...)
			return n, nil
		}
		line := p[:i]
		if len(w.rest) > 0 {
			w.rest = append(w.rest, line...)
			line = w.rest
		}
		w.Add(Hash(line), len(line))
		w.rest = w.rest[:0]
		p = p[i+1:]
	}
}

// Close counts what came after the last newline.
func (w *Writer) Close() error {
	if len(w.rest) > 0 {
		w.Add(Hash(w.rest), len(w.rest))
		w.rest = nil
	}
	return nil
}
