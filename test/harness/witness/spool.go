package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	spooldir "github.com/dockline/dockline/logdriver/spool"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/proc"
)

// Spool looks at a plugin's files from outside (logdriver/spool/FORMAT.md).
type Spool struct {
	Mount string // the plugin's propagated mount

	ends  map[string]map[uint64]bool   // by stream: offsets at which an engine died
	jumps map[string]map[uint64]uint64 // by stream: offsets that were left out, from and to
}

// NewSpool looks at the spool of the plugin of this id.
func NewSpool(dataRoot, plugin string) *Spool {
	return &Spool{
		Mount: filepath.Join(dataRoot, "plugins", plugin, "propagated-mount"),
		ends:  map[string]map[uint64]bool{}, jumps: map[string]map[uint64]uint64{},
	}
}

// State is where the spool lies.
func (s *Spool) State() string { return filepath.Join(s.Mount, ".dockline/spool") }

// Digest is of all that is in the spool, but for what a plugin puts aside that
// cannot read it.
func (s *Spool) Digest() (string, error) {
	sum, aside := sha256.New(), filepath.Join(s.State(), "rescue")
	err := filepath.WalkDir(s.State(), func(path string, e fs.DirEntry, err error) error {
		if path == aside {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %v %d\n%s", path, info.ModTime(), len(data), data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("digest the spool: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (s *Spool) streams() ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(s.State(), "streams/*"))
	if err != nil {
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	return dirs, nil
}

// KillEngine kills an engine as a crash does, and notes for each stream where
// the bytes end that it has written: those in the spool and those in the pipe.
// While stopped it writes nothing, so this is exact.
func (s *Spool) KillEngine(ctx context.Context, e *harness.Engine) error {
	if err := Freeze(ctx, e.PID()); err != nil {
		return err
	}
	dirs, err := s.streams()
	if err != nil {
		return err
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
		s.died(filepath.Base(dir), at)
	}
	return e.Kill()
}

// NoteEnds notes where each stream ends, after a power cut.
func (s *Spool) NoteEnds() error {
	ends, err := s.spooled()
	for stream, at := range ends {
		s.died(stream, at)
	}
	return err
}

func (s *Spool) died(stream string, at uint64) {
	if s.ends[stream] == nil {
		s.ends[stream] = map[uint64]bool{}
	}
	s.ends[stream][at] = true
}

// Seams returns by stream the offsets at which a session followed another.
func (s *Spool) Seams() (map[string]map[uint64]bool, error) {
	dirs, err := s.streams()
	if err != nil {
		return nil, err
	}
	all := map[string]map[uint64]bool{}
	for _, dir := range dirs {
		segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
		if err != nil {
			return nil, fmt.Errorf("list a stream's segments: %w", err)
		}
		seams, last := map[uint64]bool{}, ""
		for _, name := range segments {
			offset, session, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), ".seg"), "-")
			at, err := strconv.ParseUint(offset, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("read a segment's name: %w", err)
			}
			if session != last && last != "" {
				seams[at] = true
			}
			last = session
		}
		all[filepath.Base(dir)] = seams
	}
	return all, nil
}

// NoteSeams takes the seams that were not there before for places at which an
// engine ended, for one that did so on its own: nobody could look meanwhile.
func (s *Spool) NoteSeams(before map[string]map[uint64]bool) error {
	now, err := s.Seams()
	for stream, seams := range now {
		for at := range seams {
			if !before[stream][at] {
				s.died(stream, at)
			}
		}
	}
	return err
}

// NoteJumps reads which offsets the plugin has left out, after the machine was
// booted.
func (s *Spool) NoteJumps() error {
	names, err := filepath.Glob(filepath.Join(s.State(), "streams/*/*.jump"))
	if err != nil {
		return fmt.Errorf("list the jumps: %w", err)
	}
	for _, name := range names {
		stream := filepath.Base(filepath.Dir(name))
		from, err1 := strconv.ParseUint(filepath.Base(name)[:16], 16, 64)
		to, err2 := strconv.ParseUint(filepath.Base(name)[17:33], 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("read a jump's name: %w", err)
		}
		if s.jumps[stream] == nil {
			s.jumps[stream] = map[uint64]uint64{}
		}
		s.jumps[stream][from] = to
	}
	return nil
}

// Jumped reports whether NoteJumps has found offsets that a stream left out.
func (s *Spool) Jumped(stream string) bool { return len(s.jumps[stream]) > 0 }

var errMoving = errors.New("bytes are moving from pipe to spool")

func (s *Spool) endWithPipe(dir string) (uint64, error) {
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

// spooled returns where each stream ends.
func (s *Spool) spooled() (map[string]uint64, error) {
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

// Complete returns an error as long as not every byte of a container that is in
// the spool has come. Offsets must not have been left out.
func (s *Spool) Complete(container string, a Account) error {
	if a.Stream == "" {
		return fmt.Errorf("nothing has come from %s", container)
	}
	to, err := end(filepath.Join(s.State(), "streams", a.Stream))
	if err == nil && a.Bytes < to {
		err = fmt.Errorf("%d of the %d bytes that %s wrote to its FIFO have come", a.Bytes, to, container)
	}
	return err
}

// piped is how many bytes are in the pipes of a stream.
func (s *Spool) piped(dir string) (sum uint64, err error) {
	sessions, err := filepath.Glob(filepath.Join(dir, "*.fifo"))
	if err != nil {
		return 0, fmt.Errorf("list a stream's sessions: %w", err)
	}
	for _, name := range sessions {
		path, err := os.ReadFile(name)
		if err != nil {
			return 0, fmt.Errorf("read a session: %w", err)
		}
		n, err := inPipe(filepath.Join(s.Mount, filepath.Base(string(path))))
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

// Acked returns an error as long as a stream is not acknowledged to its end.
func (s *Spool) Acked() error {
	ends, err := s.spooled()
	if err != nil {
		return err
	}
	for stream, to := range ends {
		at, err := s.Cursor(stream)
		if err != nil {
			return err
		}
		if at < to {
			return fmt.Errorf("stream %s is acknowledged up to %d of %d", stream, at, to)
		}
	}
	return nil
}

// Cursor is how far a stream is acknowledged.
func (s *Spool) Cursor(stream string) (uint64, error) {
	return spooldir.ReadCursor(filepath.Join(s.State(), "streams", stream, "default.cursor"))
}

// AwaitBacklog waits until so many bytes of a stream are not acknowledged.
func (s *Spool) AwaitBacklog(ctx context.Context, stream string, bytes uint64) error {
	return proc.Await(ctx, func(context.Context) error {
		at, err1 := s.Cursor(stream)
		to, err2 := end(filepath.Join(s.State(), "streams", stream))
		if err := errors.Join(err1, err2); err != nil || to >= at+bytes {
			return err
		}
		return fmt.Errorf("of stream %s, %d bytes are not acknowledged", stream, to-at)
	})
}

// Freeze stops a process and returns when all its threads stand still.
func Freeze(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	return proc.Await(ctx, func(context.Context) error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		for _, name := range tasks {
			stat, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended
			}
			_, rest, _ := strings.Cut(string(stat), ") ")
			if !strings.HasPrefix(rest, "T") {
				return fmt.Errorf("process %d has not stopped", pid)
			}
		}
		return nil
	})
}

// Thaw lets it go on.
func Thaw(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return fmt.Errorf("let process %d go on: %w", pid, err)
	}
	return nil
}
