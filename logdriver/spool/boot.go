package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// After a power cut the tail of a stream may be gone from the disk though it
// was shipped. Its offsets must not be used again: a collector that knows
// records by their ids would take the new ones for the old. So the first start
// after a boot moves the end of every stream on by more than could have been
// written and lost.
const (
	bootFile  = "boot"
	jumpExt   = ".jump"
	jumpBytes = 1 << 40
	bootID    = "/proc/sys/kernel/random/boot_id"
)

// jump is a run of offsets that were left out.
type jump struct{ from, to uint64 }

// noteBoot makes all streams jump where the machine was booted since the spool
// was last opened.
func (s *Spool) noteBoot() error {
	id, err := os.ReadFile(bootID)
	if err != nil {
		return fmt.Errorf("read the boot id: %w", err)
	}
	path := filepath.Join(s.dir, bootFile)
	last, err := os.ReadFile(path)
	if err == nil && string(last) == string(id) {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the last boot id: %w", err)
	}
	for _, st := range s.Streams() {
		if err := st.jump(); err != nil {
			return err
		}
	}
	if err := s.cfg.disk.replace(path, id); err != nil {
		return fmt.Errorf("note the boot id: %w", err)
	}
	return nil
}

// jump moves the stream's end on, on the disk and in memory.
func (st *Stream) jump() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	j := jump{st.end, st.end + jumpBytes}
	name := fmt.Sprintf("%016x-%016x%s", j.from, j.to, jumpExt)
	if err := st.sp.cfg.disk.replace(filepath.Join(st.dir, name), nil); err != nil {
		return fmt.Errorf("move a stream's end on: %w", err)
	}
	st.jumps = append(st.jumps, j)
	st.end = j.to
	return nil
}

func (st *Stream) recoverJump(base string) {
	f, t, ok := parsePair(base, 64)
	if !ok || t < f {
		st.odd(base + jumpExt)
		return
	}
	st.jumps = append(st.jumps, jump{f, t})
}

// parsePair reads the two hexadecimal numbers of a file's name, of 64 and of
// so many bits.
func parsePair(base string, bits int) (a, b uint64, ok bool) {
	x, y, ok := strings.Cut(base, "-")
	a, err1 := strconv.ParseUint(x, 16, 64)
	b, err2 := strconv.ParseUint(y, 16, bits)
	return a, b, ok && err1 == nil && err2 == nil
}

// lostLocked is how many of the offsets from..to held bytes: all but those
// that were jumped over.
func (st *Stream) lostLocked(from, to uint64) uint64 {
	lost := to - from
	for _, j := range st.jumps {
		if a, b := max(from, j.from), min(to, j.to); b > a {
			lost -= b - a
		}
	}
	return lost
}
