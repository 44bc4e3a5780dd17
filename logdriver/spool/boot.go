package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// After a power cut the tail of a stream may be gone from the disk though it
// was shipped. Its offsets must not be used again: a collector that knows
// records by their ids would take the new ones for the old. So boots are
// counted, and in boot n no stream writes below offset n*jumpBytes, unless it
// was made in that boot. The count is on the disk for good before the first
// byte of a boot is; what else is lost in a power cut does not matter then.
const (
	bootFile  = "boot"
	jumpExt   = ".jump"
	jumpBytes = 1 << 40
	bootID    = "/proc/sys/kernel/random/boot_id"
)

// jump is a run of offsets that were left out in a boot.
type jump struct {
	from, to uint64
	boot     uint32
}

func (j jump) name() string {
	return fmt.Sprintf("%016x-%016x-%08x%s", j.from, j.to, j.boot, jumpExt)
}

// countBoot finds out in which boot this is, and makes all streams that were
// made before it jump. What has to be on the disk for that is put there when a
// stream first writes, see settleBoot: the disk may take nothing now.
func (s *Spool) countBoot() error {
	id, err := s.bootID()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(s.dir, bootFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the last boot: %w", err)
	}
	last, lastID, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	n, err := strconv.ParseUint(last, 16, 32)
	if err != nil && len(data) > 0 {
		s.log.Error("the count of boots cannot be read; it is made again from the streams", "err", err)
	}
	s.boot, s.bootName = uint32(n), id
	for _, st := range s.Streams() {
		s.boot = max(s.boot, st.boot)
	}
	if s.boot == 0 || lastID != id {
		s.boot++
	} else {
		s.bootSettled.Store(true)
	}
	for _, st := range s.Streams() {
		st.jump(s.boot)
	}
	return nil
}

func (s *Spool) bootID() (string, error) {
	if s.cfg.disk.boot != "" {
		return s.cfg.disk.boot, nil
	}
	id, err := os.ReadFile(bootID)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return string(bytes.TrimSpace(id)), nil
}

// settleBoot puts the count of boots on the disk if it is not there yet.
func (s *Spool) settleBoot() error {
	if s.bootSettled.Load() {
		return nil
	}
	s.bootMu.Lock()
	defer s.bootMu.Unlock()
	if s.bootSettled.Load() {
		return nil
	}
	if err := s.cfg.disk.exchangeForGood(filepath.Join(s.dir, bootFile), fmt.Appendf(nil, "%08x %s\n", s.boot, s.bootName)); err != nil {
		return fmt.Errorf("note the boot: %w", err)
	}
	s.bootSettled.Store(true)
	return nil
}

// jump moves the stream's end on where it was last written in an earlier boot.
func (st *Stream) jump(boot uint32) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.boot >= boot {
		return
	}
	j := jump{st.end, uint64(boot) * jumpBytes, boot}
	if j.to < j.from { // it wrote more than that in one boot
		j.to = j.from + jumpBytes
	}
	st.boot, st.owed = boot, &j
	st.jumps = append(st.jumps, j)
	st.end = j.to
}

// settleJump makes sure that what the stream is about to write is known to lie
// behind a jump. It is called with wmu held.
func (st *Stream) settleJump() error {
	if err := st.sp.settleBoot(); err != nil {
		return err
	}
	st.mu.Lock()
	j := st.owed
	st.mu.Unlock()
	if j == nil {
		return nil
	}
	if err := st.sp.cfg.disk.replace(filepath.Join(st.dir, j.name()), nil); err != nil {
		return fmt.Errorf("move a stream's end on: %w", err)
	}
	st.mu.Lock()
	st.owed = nil
	st.mu.Unlock()
	return nil
}

func (st *Stream) recoverJump(base string) {
	pair, last, ok := cutLast(base)
	boot, err := strconv.ParseUint(last, 16, 32)
	f, t, pok := parsePair(pair, 64)
	if !ok || !pok || err != nil || t < f {
		st.odd(base + jumpExt)
		return
	}
	st.jumps = append(st.jumps, jump{f, t, uint32(boot)})
	st.boot = max(st.boot, uint32(boot))
}

func cutLast(base string) (before, after string, ok bool) {
	i := strings.LastIndexByte(base, '-')
	if i < 0 {
		return base, "", false
	}
	return base[:i], base[i+1:], true
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
// that were jumped over. A gap as wide as a jump is one, whose file a power cut
// took.
func (st *Stream) lostLocked(from, to uint64) uint64 {
	lost := to - from
	for _, j := range st.jumps {
		if a, b := max(from, j.from), min(to, j.to); b > a {
			lost -= b - a
		}
	}
	if lost >= jumpBytes/2 {
		return to % jumpBytes
	}
	return lost
}
