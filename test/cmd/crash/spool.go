package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	spooldir "github.com/dockline/dockline/logdriver/spool"
	"github.com/dockline/dockline/test/harness/proc"
)

// fillTime is how long the plugin stands still before the engine is killed.
const fillTime = 300 * time.Millisecond

// spool looks at the plugin's files from outside (logdriver/spool/FORMAT.md).
type spool struct {
	mount string
	ends  map[string]map[uint64]bool // by stream: offsets at which an engine died
}

func (s *spool) streams() ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(s.mount, ".dockline/spool/streams/*"))
	if err != nil {
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	return dirs, nil
}

// noteEnds notes for each stream where the bytes end that a stopped engine has
// written: those in the spool and those in the pipe.
func (s *spool) noteEnds(ctx context.Context) error {
	dirs, err := s.streams()
	if err != nil {
		return err
	}
	if s.ends == nil {
		s.ends = map[string]map[uint64]bool{}
	}
	for _, dir := range dirs {
		var at uint64
		err := proc.Await(ctx, func(context.Context) (err error) {
			at, err = s.endWithPipe(dir)
			return err
		})
		if err != nil {
			return err
		}
		id := filepath.Base(dir)
		if s.ends[id] == nil {
			s.ends[id] = map[uint64]bool{}
		}
		s.ends[id][at] = true
	}
	return nil
}

var errMoving = errors.New("bytes are moving from pipe to spool")

func (s *spool) endWithPipe(dir string) (uint64, error) {
	before, err := end(dir)
	if err != nil {
		return 0, err
	}
	piped, err := s.piped(dir)
	if err != nil {
		return 0, err
	}
	after, err := end(dir)
	if err == nil && after != before {
		err = errMoving
	}
	return after + piped, err
}

// end is the offset behind a stream's last byte.
func end(dir string) (at uint64, err error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(segments) == 0 {
		return 0, err
	}
	last := segments[len(segments)-1] // names sort by offset
	info, err := os.Stat(last)
	if err != nil {
		return 0, fmt.Errorf("look at a segment: %w", err)
	}
	at, err = strconv.ParseUint(filepath.Base(last)[:16], 16, 64)
	return at + uint64(info.Size()), err
}

// spooled is how many bytes of each stream have been in the spool.
func (s *spool) spooled() (map[string]uint64, error) {
	dirs, err := s.streams()
	if err != nil {
		return nil, err
	}
	ends := map[string]uint64{}
	for _, dir := range dirs {
		if ends[filepath.Base(dir)], err = end(dir); err != nil {
			return nil, err
		}
	}
	return ends, nil
}

// piped is how many bytes are in the pipes of a stream.
func (s *spool) piped(dir string) (sum uint64, err error) {
	sessions, err := filepath.Glob(filepath.Join(dir, "*.fifo"))
	if err != nil {
		return 0, fmt.Errorf("list a stream's sessions: %w", err)
	}
	for _, name := range sessions {
		path, err := os.ReadFile(name)
		if err != nil {
			return 0, fmt.Errorf("read a session: %w", err)
		}
		n, err := inPipe(filepath.Join(s.mount, filepath.Base(string(path))))
		if err != nil {
			return 0, err
		}
		sum += uint64(n)
	}
	return sum, nil
}

func inPipe(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil // of a session that is being ended
	}
	if err != nil {
		return 0, fmt.Errorf("open a FIFO: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0, fmt.Errorf("ask how full a FIFO is: %w", err)
	}
	return n, nil
}

// acked returns an error as long as some route has not acknowledged everything.
func (s *spool) acked() error {
	dirs, err := s.streams()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		to, err := end(dir)
		if err != nil {
			return err
		}
		at, err := spooldir.ReadCursor(filepath.Join(dir, "default.cursor"))
		if err != nil {
			return err
		}
		if at < to {
			return fmt.Errorf("stream %s is acknowledged up to %d of %d", filepath.Base(dir), at, to)
		}
	}
	return nil
}
