// Package poison keeps records that collectors will never take, so that somebody
// can look at them: in two files, of which the older one goes when the newer one
// is full. It stands beside the data path, behind ship.
//
// A file holds one JSON object a line. A line that a crash cut off is left out;
// the record in it comes again, for its cursor did not move on.
package poison

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Entry is one record, or several of which it is not known which are meant.
type Entry struct {
	At        time.Time `json:"at"` // when it was put aside
	Collector string    `json:"collector"`
	ID        string    `json:"id"` // of the record
	Container string    `json:"container"`
	Records   int       `json:"records"` // how many it stands for
	Class     string    `json:"class"`
	Reason    string    `json:"reason"`
	Encoded   []byte    `json:"encoded"` // as it was sent, the beginning of it
}

// Kind is what entries are counted by.
type Kind struct{ Collector, Class string }

const (
	current  = "poison.jsonl"
	previous = "poison.old.jsonl"
	// maxLine bounds what is read as one line.
	maxLine = 1 << 20
)

// Store keeps entries.
type Store struct {
	dir string
	max int64 // bytes of each file

	mu    sync.Mutex // guards what follows, and the files
	count map[Kind]uint64
}

// New returns the store in a folder, which has to be there. It takes about twice
// max bytes there.
func New(dir string, max int64) *Store {
	return &Store{dir: dir, max: max, count: map[Kind]uint64{}}
}

// Add puts entries aside. With an error they may not be kept, but are counted.
func (s *Store) Add(entries []Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for i := range entries {
		s.count[Kind{entries[i].Collector, entries[i].Class}] += uint64(entries[i].Records)
		if err := enc.Encode(&entries[i]); err != nil {
			return fmt.Errorf("put a record aside: %w", err)
		}
	}
	if err := s.writeLocked(text.Bytes()); err != nil {
		return fmt.Errorf("put records aside: %w", err)
	}
	return nil
}

func (s *Store) writeLocked(text []byte) (err error) {
	name := filepath.Join(s.dir, current)
	if info, err := os.Stat(name); err == nil && info.Size() > 0 && info.Size()+int64(len(text)) > s.max {
		if err := os.Rename(name, filepath.Join(s.dir, previous)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := mend(f); err != nil {
		return err
	}
	_, err = f.Write(text)
	return err
}

// mend ends a line that was cut off.
func mend(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte("\n"))
	return err
}

// List returns what is kept, oldest first. A record that was put aside twice,
// around a crash, is there once.
func (s *Store) List() ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Entry
	at := map[string]int{}
	for _, name := range []string{previous, current} {
		err := read(filepath.Join(s.dir, name), func(e Entry) {
			key := e.Collector + "\x00" + e.ID
			if n, again := at[key]; again {
				all[n] = e
				return
			}
			at[key] = len(all)
			all = append(all, e)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return all, fmt.Errorf("read what was put aside: %w", err)
		}
	}
	return all, nil
}

// read calls each with the entries of a file.
func read(name string, each func(Entry)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := readLine(in)
		var e Entry
		if len(line) > 0 && json.Unmarshal(line, &e) == nil && e.ID != "" {
			each(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLine returns a line; none of one that is too long.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) <= maxLine {
			line = append(line, part...)
		} else {
			line = line[:0]
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// Counts returns how many records were put aside since the process began.
func (s *Store) Counts() map[Kind]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.count)
}
