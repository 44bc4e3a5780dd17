package collector

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/dockline/dockline/test/harness/tally"
)

// Sighting is what the Checker keeps of a record.
type Sighting struct {
	Collector string
	Stream    string // first part of the record's id
	Offset    uint64 // second part
	Container string
	Source    string
	Hash      uint64 // of the line, see tally.Hash
	Length    int
	Written   int64 // nanoseconds since 1970; 0 where the line does not say
	Received  int64 // nanoseconds since 1970
	// Connection is the record's, see Record.
	Connection int
}

// Sighting condenses a record. An error means that its id is malformed.
func (r Record) Sighting() (Sighting, error) {
	at := strings.LastIndexByte(r.ID, '-')
	if at < 1 {
		return Sighting{}, fmt.Errorf("record id %q is not <stream>-<offset>", r.ID)
	}
	offset, err := strconv.ParseUint(r.ID[at+1:], 16, 64)
	if err != nil {
		return Sighting{}, fmt.Errorf("record id %q: %w", r.ID, err)
	}
	return Sighting{
		Collector: r.Collector, Stream: r.ID[:at], Offset: offset, Container: r.Container, Source: r.Source,
		Hash: tally.Hash(r.Line), Length: len(r.Line), Written: written(r.Line), Received: r.Received.UnixNano(),
		Connection: r.Connection,
	}, nil
}

// written reads the time from a line of the workloads seq and burst.
func written(line []byte) int64 {
	if !bytes.HasPrefix(line, []byte("seq=")) {
		return 0
	}
	_, rest, ok := bytes.Cut(line[:min(len(line), 200)], []byte(" ts="))
	if !ok {
		return 0
	}
	digits, _, _ := bytes.Cut(rest, []byte(" "))
	ts, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return ts
}

// Journal writes sightings to a file, one a line, so that a collector that is a
// process of its own can be killed and nothing that it has acknowledged is
// forgotten.
type Journal struct {
	mu sync.Mutex // guards the rest
	f  *os.File
	b  []byte
}

// OpenJournal appends to a journal.
func OpenJournal(name string) (*Journal, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open a journal: %w", err)
	}
	return &Journal{f: f}, nil
}

const journalLine = "%s\t%s\t%x\t%s\t%s\t%x\t%d\t%d\t%d\t%d\n"

// Add writes one record down before it returns.
func (j *Journal) Add(r Record) error {
	s, err := r.Sighting()
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.b = fmt.Appendf(j.b[:0], journalLine,
		s.Collector, s.Stream, s.Offset, s.Container, s.Source, s.Hash, s.Length, s.Written, s.Received, s.Connection)
	if _, err := j.f.Write(j.b); err != nil {
		return fmt.Errorf("write a journal: %w", err)
	}
	return nil
}

// Close closes the journal.
func (j *Journal) Close() error { return j.f.Close() }

// ReadJournal calls each for every whole line of a journal and returns how many
// bytes those were, which is where to go on later.
func ReadJournal(r io.Reader, each func(Sighting)) (n int64, err error) {
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, fmt.Errorf("read a journal: %w", err)
		}
		s, err := parseJournal(line)
		if err != nil {
			return n, err
		}
		n += int64(len(line))
		each(s)
	}
}

func parseJournal(line string) (s Sighting, err error) {
	f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
	if len(f) != 10 {
		return s, fmt.Errorf("read a journal: %d fields in %q", len(f), line)
	}
	s = Sighting{Collector: f[0], Stream: f[1], Container: f[3], Source: f[4]}
	var errs [6]error
	s.Offset, errs[0] = strconv.ParseUint(f[2], 16, 64)
	s.Hash, errs[1] = strconv.ParseUint(f[5], 16, 64)
	s.Length, errs[2] = strconv.Atoi(f[6])
	s.Written, errs[3] = strconv.ParseInt(f[7], 10, 64)
	s.Received, errs[4] = strconv.ParseInt(f[8], 10, 64)
	s.Connection, errs[5] = strconv.Atoi(f[9])
	if err := errors.Join(errs[:]...); err != nil {
		return s, fmt.Errorf("read a journal: %w", err)
	}
	return s, nil
}
