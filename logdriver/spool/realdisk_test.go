package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// volume is a file system of the test's own.
type volume struct {
	t     *testing.T
	dir   string
	image string // "" for one in memory
}

// newVolume mounts an ext4 of so many MiB on a file.
func newVolume(t *testing.T, mib int64) *volume {
	t.Helper()
	base := t.TempDir()
	v := &volume{t: t, dir: filepath.Join(base, "mnt"), image: filepath.Join(base, "image")}
	if err := errors.Join(os.Mkdir(v.dir, 0o700), os.WriteFile(v.image, nil, 0o600), os.Truncate(v.image, mib<<20)); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", v.image)
	v.mount()
	t.Cleanup(func() { _ = unix.Unmount(v.dir, unix.MNT_DETACH) })
	return v
}

// newMemory mounts a tmpfs of so many bytes.
func newMemory(t *testing.T, size int) *volume {
	t.Helper()
	v := &volume{t: t, dir: t.TempDir()}
	if err := unix.Mount("none", v.dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(v.dir, unix.MNT_DETACH) })
	return v
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (v *volume) mount() {
	v.t.Helper()
	command(v.t, "mount", "-o", "loop", v.image, v.dir)
}

func (v *volume) ioctl(request uintptr, arg int) {
	v.t.Helper()
	f, err := os.Open(v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), uint(request), arg); err != nil {
		v.t.Fatalf("ioctl %x: %v", request, err)
	}
}

// From linux/fs.h and linux/fs/ext4/ext4.h.
const (
	freeze     = 0xc0045877
	thaw       = 0xc0045878
	shutdown   = 0x8004587d
	noLogFlush = 2
)

// cut is a power cut: what is not on the disk is gone, and every call fails.
func (v *volume) cut() { v.ioctl(shutdown, noLogFlush) }

// remount is what a reboot does after cut. Another process that has come to a mount
// namespace of its own meanwhile keeps the file system as it is, dead: so it is a copy
// of the disk that is mounted.
func (v *volume) remount() {
	v.t.Helper()
	if err := unix.Unmount(v.dir, 0); err != nil {
		v.t.Fatal(err)
	}
	disk, err := os.ReadFile(v.image)
	if err != nil {
		v.t.Fatal(err)
	}
	v.image += "'"
	if err := os.WriteFile(v.image, disk, 0o600); err != nil {
		v.t.Fatal(err)
	}
	v.mount()
}

func (v *volume) readOnly(yes bool) {
	v.t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if yes {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("none", v.dir, "", flags, ""); err != nil {
		v.t.Fatal(err)
	}
}

// TestPowerCutOnExt4 does with a real file system what TestPowerCutAtEveryChange
// does with a model of one.
func TestPowerCutOnExt4(t *testing.T) {
	v := newVolume(t, 16)
	m := newMachine(t, 7)
	m.dir = v.dir
	for round := range 6 {
		m.life = &life{left: 1 << 30}
		s, err := Open(m.dir, Config{MaxBytes: 1 << 40, SegmentBytes: 96, FrameLen: frameLen, disk: disk{boot: fmt.Sprint("boot-", m.boots)}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		m.spool = s
		m.look()
		for _, d := range append([]deed{oldRuns}, oneRun[:len(oneRun)-round]...) {
			if err := d(m); err != nil {
				t.Fatal(err)
			}
			m.look()
		}
		v.cut()
		s.Close()
		v.remount()
		m.boots++
		m.run++
		m.here, m.calm, m.firm = nil, false, map[string]bool{}
	}
	if len(m.safe) < 20 || len(m.found) == len(m.ids) {
		t.Errorf("of %d records %d were synced and %d are left; some should be lost", len(m.ids), len(m.safe), len(m.found))
	}
}

func TestADiskThatFails(t *testing.T) {
	v := newVolume(t, 16)
	s := open(t, v.dir, Config{})
	r, w := pipe(t)
	p := Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 20}
	se := attach(t, s, p, "/fifo/1")
	write(t, w, []byte("before"))
	drain(t, se, r)
	if err := se.Stream().Sync(); err != nil {
		t.Fatal(err)
	}
	v.cut()
	write(t, w, []byte("lost"))
	if _, err := se.Splice(r, 100); !errors.Is(err, unix.EIO) {
		t.Fatalf("splice to a disk that fails: %v", err)
	}
	if n, err := se.Discard(r, 100); err != nil || n != 4 {
		t.Fatalf("discard: %d, %v", n, err)
	}
	if err := se.Stream().Ack("a", 3); !errors.Is(err, unix.EIO) || s.Health().CursorErrors != 1 {
		t.Errorf("a cursor on a disk that fails: %v", err)
	}
	if _, _, err := s.Attach(Params{Container: "b" + owner[1:]}, "/fifo/2"); !errors.Is(err, unix.EIO) {
		t.Errorf("attach: %v", err)
	}
	rd := se.Stream().NewReader()
	defer rd.Close()
	var one *SegmentError
	if _, err := rd.Read(make([]byte, 10), 0); !errors.Is(err, unix.EIO) || errors.As(err, &one) {
		t.Errorf("read: %v; no segment is to be given up for that", err)
	}
	if _, dropped := s.Used(); dropped != 4 {
		t.Errorf("%d bytes count as dropped", dropped)
	}
	s.Close()
	v.remount()
	write(t, w, []byte("after"))
	drain(t, se, r)
	if err := se.Stream().Ack("a", 10); err != nil {
		t.Error(err)
	}
	if got := string(readAll(t, se.Stream(), 0)); got != "beforeafter" {
		t.Errorf("got %q", got)
	}
	if st := open(t, v.dir, Config{}).Of(owner); st.Cursor("a") != 10 || string(readAll(t, st, 0)) != "beforeafter" {
		t.Errorf("after a restart: %d, %q", st.Cursor("a"), readAll(t, st, 0))
	}
}

// TestASegmentThatCannotBeRead has one segment whose reads fail: the others can
// be read, and the error says where to go on.
func TestASegmentThatCannotBeRead(t *testing.T) {
	v := newVolume(t, 16)
	s := open(t, v.dir, Config{SegmentBytes: 64 << 10})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 30}, "/fifo/1")
	for range 3 {
		write(t, w, make([]byte, 64<<10))
		drain(t, se, r)
	}
	if err := se.Stream().Sync(); err != nil {
		t.Fatal(err)
	}
	segs, err := filepath.Glob(filepath.Join(se.Stream().dir, "*"+segmentExt))
	if err != nil || len(segs) != 3 {
		t.Fatal(segs, err)
	}
	// What the file system says is there, a directory in its place cannot give.
	if err := errors.Join(os.Remove(segs[1]), os.Mkdir(segs[1], 0o700)); err != nil {
		t.Fatal(err)
	}
	rd := se.Stream().NewReader()
	defer rd.Close()
	buf := make([]byte, 64<<10)
	var bad *SegmentError
	if _, err := rd.Read(buf, 64<<10); !errors.As(err, &bad) || bad.SkipTo() != 128<<10 {
		t.Fatalf("got %v", err)
	}
	for _, at := range []uint64{0, 128 << 10} {
		if span, err := rd.Read(buf, at); err != nil || span.Len != 64<<10 {
			t.Errorf("the segment at %d: %+v, %v", at, span, err)
		}
	}
}

func TestADiskThatIsReadOnlyForAWhile(t *testing.T) {
	v := newMemory(t, 1<<20)
	s := open(t, v.dir, Config{})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 20}, "/fifo/1")
	write(t, w, []byte("before"))
	drain(t, se, r)
	s.Close()
	v.readOnly(true)
	write(t, w, []byte(" between"))
	if _, err := se.Splice(r, 100); !errors.Is(err, unix.EROFS) {
		t.Fatalf("splice: %v", err)
	}
	s = open(t, v.dir, Config{}) // a plugin that starts now goes on reading its containers
	if se = s.Of(owner).Sessions()[0]; se.FIFO() != "/fifo/1" {
		t.Fatal("the session is lost")
	}
	if _, err := se.Splice(r, 100); !errors.Is(err, unix.EROFS) {
		t.Fatalf("splice after a start: %v", err)
	}
	if _, _, err := s.Attach(Params{Container: "b" + owner[1:]}, "/fifo/2"); !errors.Is(err, unix.EROFS) {
		t.Errorf("attach: %v", err)
	}
	if got := string(readAll(t, se.Stream(), 0)); got != "before" {
		t.Errorf("read-only, it reads %q", got)
	}
	v.readOnly(false)
	drain(t, se, r)
	if got := string(readAll(t, open(t, v.dir, Config{}).Of(owner), 0)); got != "before between" {
		t.Errorf("after all, got %q", got)
	}
}

func TestAnotherBootFindsAReadOnlyDisk(t *testing.T) {
	v := newMemory(t, 1<<20)
	s := open(t, v.dir, Config{disk: disk{boot: "one"}})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 20}, "/fifo/1")
	write(t, w, []byte("one"))
	drain(t, se, r)
	s.Close()
	v.readOnly(true)
	s = open(t, v.dir, Config{disk: disk{boot: "two"}})
	se = s.Of(owner).Sessions()[0]
	write(t, w, []byte("two"))
	if _, err := se.Splice(r, 100); !errors.Is(err, unix.EROFS) {
		t.Fatalf("splice: %v", err)
	}
	v.readOnly(false)
	drain(t, se, r)
	if st := open(t, v.dir, Config{disk: disk{boot: "two"}}).Of(owner); st.End() != 2*jumpBytes+3 {
		t.Errorf("the second boot's bytes end at %x", st.End())
	}
}

func TestADiskThatIsReallyFull(t *testing.T) {
	v := newMemory(t, 1<<20)
	s := open(t, v.dir, Config{SegmentBytes: 64 << 10})
	r, w := pipe(t)
	p := Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 40}
	se := attach(t, s, p, "/fifo/1")
	for range 100 {
		write(t, w, make([]byte, 60<<10))
		drain(t, se, r)
	}
	if _, dropped := s.Used(); dropped == 0 || se.Stream().End() != 100*60<<10 {
		t.Errorf("%d bytes moved, %d dropped", se.Stream().End(), dropped)
	}
	if _, _, err := s.Attach(Params{Container: "b" + owner[1:], Routes: []string{"a"}}, "/fifo/2"); err != nil {
		t.Errorf("a container cannot start though what others wrote could give way: %v", err)
	}
	// Now somebody else takes all there is.
	if err := s.Of(owner).Ack("a", se.Stream().End()); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(v.dir, "foreign")
	_ = os.WriteFile(foreign, make([]byte, 1<<20), 0o600)
	for range 20 {
		write(t, w, make([]byte, 10<<10))
		for {
			if _, err := se.Splice(r, 1<<20); isFull(err) {
				if n, err := se.Discard(r, 1<<20); n <= 0 {
					t.Fatalf("discard: %d, %v", n, err)
				}
			} else if err != nil {
				break
			}
		}
		_ = os.WriteFile(foreign, make([]byte, 1<<20), 0o600)
	}
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	from := se.Stream().End()
	write(t, w, []byte("room again"))
	drain(t, se, r)
	if got := string(readAll(t, s.Of(owner), from)); got != "room again" {
		t.Errorf("got %q", got)
	}
}

// lines is a log that a test can wait for.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.more <- struct{}{} }()
	return l.buf.Write(b)
}

func (l *lines) waitFor(t *testing.T, text string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case <-l.more:
		case <-late:
			t.Fatalf("%q was not said", text)
		}
		l.mu.Lock()
		found := bytes.Contains(l.buf.Bytes(), []byte(text))
		l.mu.Unlock()
		if found {
			return
		}
	}
}

// TestAFrozenDisk stops a real file system under a splice. It says so while that
// lasts, all questions are answered, and nothing is lost.
func TestAFrozenDisk(t *testing.T) {
	v := newVolume(t, 16)
	said := &lines{more: make(chan struct{}, 100)}
	s, err := Open(v.dir, Config{MaxBytes: 1 << 40, SegmentBytes: 1 << 20}, slog.New(slog.NewTextHandler(said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 20}, "/fifo/1")
	st := se.Stream()
	write(t, w, []byte("before "))
	drain(t, se, r)
	if err := st.Ack("a", 3); err != nil {
		t.Fatal(err)
	}
	v.ioctl(freeze, 0)
	melt := sync.OnceFunc(func() { v.ioctl(thaw, 0) })
	defer melt()
	write(t, w, []byte("frozen"))
	var work sync.WaitGroup
	work.Go(func() { _, _ = se.Splice(r, 100) })
	work.Go(func() { _ = st.Ack("a", 5) })
	said.waitFor(t, "the spool's disk is slow")
	if h := s.Health(); h.Stuck != 1 || h.Slow != 0 {
		t.Errorf("while it is frozen: %+v", h)
	}
	if backlog, _ := st.Backlog("a"); backlog < 2 || st.Live() != true || string(readAll(t, st, 0)) != "before " {
		t.Error("while it is frozen, the stream does not answer")
	}
	melt()
	work.Wait()
	if h := s.Health(); h.Stuck != 0 || h.Slow != 1 {
		t.Errorf("after it: %+v", h)
	}
	if got := string(readAll(t, st, 0)); got != "before frozen" || st.Cursor("a") != 5 {
		t.Errorf("got %q, cursor at %d", got, st.Cursor("a"))
	}
}
