package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// patience is how long an acknowledgement waits for the disk to take what
	// is said of it.
	patience = time.Second
	// syncPause is the least time between two syncs: what a power cut may take.
	// An answer then says so.
	syncPause = 5 * time.Second
	// rounds is how often the end of what does not grow is written, and a disk
	// that took nothing is tried again.
	rounds = 10 * time.Second
	idle   = time.Minute
	// maxPending bounds what waits for a disk that does not answer.
	maxPending = 256 << 10

	bootID = "/proc/sys/kernel/random/boot_id"
)

// writer is the file, which only Run writes.
type writer struct {
	f    *os.File // nil where it has to be made anew
	size int64
}

// Open reads the history that a former process left. One that cannot be read is
// put aside, and a new one begins. Until Run runs, nothing is written.
func Open(opts Options) *History {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Boot == "" {
		opts.Boot = bootOf(opts)
	}
	h := &History{
		opts: opts, log: opts.Log, streams: map[string]*stream{}, pairs: map[pair]*pair{}, latest: map[key]*span{},
		dirty: map[*span]struct{}{}, written: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	h.since = h.now()
	if err := h.read(); err != nil {
		h.log.Error("the placement history cannot be read as a whole; what is left of it is kept, beside a copy of the file", "file", opts.File, "err", err)
		h.keepDamaged()
		h.rewrite = true
	}
	if h.rewrite {
		h.closeFile()
	}
	h.emitLocked(appendText([]byte{kindBoot}, opts.Boot))
	return h
}

// bootOf asks the kernel which boot this is. One that is not known is no other.
func bootOf(opts Options) string {
	id, err := os.ReadFile(bootID)
	if err != nil {
		opts.Log.Warn("it is not known which boot of the machine this is; the placement history takes it for a new one", "err", err)
		return fmt.Sprint("unknown ", opts.Now().UnixNano())
	}
	return string(id)
}

// read takes over what the file says and adds a gap for what it cannot say.
func (h *History) read() error {
	f, err := os.OpenFile(h.opts.File, os.O_RDWR, 0)
	if err != nil {
		h.rewrite = true
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("open it: %w", err)
	}
	h.writer.f = f
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	if info.Size() > h.opts.MaxBytes {
		return fmt.Errorf("it has %d bytes, and is never made larger than %d", info.Size(), h.opts.MaxBytes)
	}
	data := make([]byte, info.Size())
	if n, err := f.ReadAt(data, 0); err != nil && n < len(data) {
		return fmt.Errorf("read it: %w", err)
	}
	behind, err := header(data)
	if err != nil {
		return err
	}
	good, boot, clean, at, err := h.load(data)
	why := ""
	switch {
	case err != nil:
		why = "the history of that time is damaged"
	case behind != 0:
		why = "the disk did not take the history of that time"
		if behind != math.MinInt64 {
			at = behind
		}
	case !clean && boot != h.opts.Boot:
		why = "the host went down"
	}
	if why != "" {
		h.addGapLocked(Gap{From: moment(max(at, 0)), To: moment(h.now()), Why: why})
		h.rewrite = true
	} else if good < len(data) {
		h.rewrite = f.Truncate(int64(good)) != nil
	}
	h.writer.size = int64(good)
	h.stats.Bytes = h.writer.size
	return err
}

// addGapLocked joins the oldest gaps where there are too many.
func (h *History) addGapLocked(g Gap) {
	h.gaps = append(h.gaps, g)
	for len(h.gaps) > maxGaps {
		h.gaps[1].From = h.gaps[0].From
		h.gaps = h.gaps[1:]
	}
}

// keepDamaged keeps the file under another name, in the place of one of before.
func (h *History) keepDamaged() {
	name := h.opts.File + ".damaged"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("a damaged placement history is not kept", "err", err)
		return
	}
	if err := os.Link(h.opts.File, name); err != nil {
		h.log.Warn("a damaged placement history is not kept", "err", err)
	}
}

// Run writes down what Note is told until ctx ends. Note is not to be called
// after that.
func (h *History) Run(ctx context.Context) {
	var syncer sync.WaitGroup
	changed := make(chan struct{}, 1)
	syncer.Go(func() { h.syncs(ctx, changed) })
	tick := time.NewTicker(rounds)
	defer tick.Stop()
	h.flush()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-h.wake:
			h.flush()
			poke(changed)
		case <-tick.C:
			h.mu.Lock()
			h.tidyLocked(idle)
			h.mu.Unlock()
			h.retry()
		}
	}
	close(changed)
	syncer.Wait()
	h.finish()
}

// emitLocked has an entry written by the next flush.
func (h *History) emitLocked(payload []byte) {
	if h.failing {
		return // everything will be written anew
	}
	if len(h.pending) > maxPending {
		h.rewrite = true
	}
	if h.rewrite {
		h.pending = h.pending[:0]
		poke(h.wake)
		return
	}
	if now := h.now(); len(h.pending) == 0 && (now-h.stamped >= int64(time.Second) || now < h.stamped) {
		h.stamped = now
		h.pending = frame(h.pending, binary.AppendVarint([]byte{kindTime}, now))
	}
	h.pending = frame(h.pending, payload)
	poke(h.wake)
}

// await returns when what was pending is written or cannot be, or when that
// takes too long: then nobody waits until the disk is back.
func (h *History) await(written <-chan struct{}) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-written:
	case <-timer.C:
		h.mu.Lock()
		first := !h.stuck
		h.stuck = true
		h.mu.Unlock()
		if first {
			h.log.Warn("the disk does not take the placement history in time; it is in memory only for now", "file", h.opts.File)
		}
	}
}

// retry writes everything anew after a write that failed.
func (h *History) retry() {
	h.mu.Lock()
	h.failing = false
	failed := h.rewrite
	h.mu.Unlock()
	if failed {
		h.flush()
	}
}

// flush writes what is pending, or all anew where that has to be.
func (h *History) flush() {
	h.mu.Lock()
	if h.failing {
		h.mu.Unlock()
		return
	}
	rewrite := h.rewrite || h.writer.size+int64(len(h.pending)) > h.opts.MaxBytes*fileShare/shares
	data := h.pending
	if rewrite {
		data = h.imageLocked()
	}
	began := h.now()
	written := h.written
	h.pending, h.rewrite, h.written = nil, false, make(chan struct{})
	h.mu.Unlock()
	if len(data) == 0 {
		close(written)
		return
	}
	err := h.write(data, rewrite)
	if err != nil {
		h.noteBehind(began - int64(patience))
	}
	h.mu.Lock()
	was := h.stats.Unwritten || h.stuck
	h.failing, h.stuck, h.stats.Unwritten, h.stats.Bytes = err != nil, false, err != nil, h.writer.size
	if err != nil {
		h.stats.WriteErrors++
		h.pending, h.rewrite = nil, true
		close(h.written)
		h.written = make(chan struct{})
	}
	h.mu.Unlock()
	close(written)
	switch {
	case err != nil && !was:
		h.log.Error("the placement history cannot be written; it is in memory only until it can", "file", h.opts.File, "err", err)
	case err == nil && was:
		h.log.Info("the placement history could be written again", "file", h.opts.File)
	}
}

func (h *History) write(data []byte, anew bool) error {
	if anew {
		return h.replace(data)
	}
	if err := h.check("append"); err != nil {
		return err
	}
	if _, err := h.writer.f.WriteAt(data, h.writer.size); err != nil {
		return err
	}
	h.writer.size += int64(len(data))
	return nil
}

// replace makes the file anew. Whatever happens, the old one is there or the new one.
func (h *History) replace(data []byte) error {
	tmp := h.opts.File + ".new"
	f, err := h.create(tmp, data)
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := errors.Join(h.check("rename"), os.Rename(tmp, h.opts.File)); err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	h.closeFile()
	h.mu.Lock()
	h.writer = writer{f, int64(len(data))}
	h.mu.Unlock()
	return nil
}

func (h *History) create(path string, data []byte) (*os.File, error) {
	err := errors.Join(h.check("create"), os.MkdirAll(filepath.Dir(path), 0o700))
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// noteBehind notes in the file that is there since when it says too little: in
// a place that it has already, which a full disk takes.
func (h *History) noteBehind(since int64) {
	if h.writer.f == nil || h.check("behind") != nil {
		return
	}
	behind, err := readBehind(h.writer.f)
	if err == nil && behind == 0 {
		_, err = h.writer.f.WriteAt(appendBehind(nil, since), int64(len(magic)))
	}
	if err != nil {
		h.log.Error("the placement history cannot say that it is not complete; should the plugin die now, it will not know", "file", h.opts.File, "err", err)
	}
}

func readBehind(f *os.File) (int64, error) {
	b := make([]byte, headerBytes)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	return header(b)
}

// imageLocked is a whole file.
func (h *History) imageLocked() []byte {
	b := appendHeader(make([]byte, 0, h.live+4096), 0)
	h.stamped = h.now()
	b = frame(b, appendText([]byte{kindBoot}, h.opts.Boot))
	b = frame(b, binary.AppendVarint([]byte{kindTime}, h.stamped))
	b = frame(b, appendNumber(nil, kindSince, uint64(h.since)))
	for _, g := range h.gaps {
		b = frame(b, appendGap(nil, g))
	}
	for _, p := range h.pairs {
		b = frame(b, appendPair(nil, p))
	}
	for _, st := range h.streams {
		b = frame(b, appendStream(nil, st))
		for _, sp := range st.spans {
			b = frame(b, appendSpan(nil, sp))
		}
	}
	return b
}

// syncs has what was written reach the disk, every now and then.
func (h *History) syncs(ctx context.Context, changed <-chan struct{}) {
	for range changed {
		h.mu.Lock()
		f := h.writer.f
		h.mu.Unlock()
		if f != nil {
			h.sync(f)
		}
		select {
		case <-ctx.Done():
		case <-time.After(syncPause):
		}
	}
}

func (h *History) sync(f *os.File) {
	err := errors.Join(h.check("sync"), f.Sync())
	if err != nil && !errors.Is(err, fs.ErrClosed) { // else there is a newer one, which was synced
		h.mu.Lock()
		h.stats.WriteErrors++
		h.mu.Unlock()
		h.log.Warn("the placement history is not synced to the disk; a power cut may take some of it", "file", h.opts.File, "err", err)
	}
}

// finish writes where everything ends, and that this is the end.
func (h *History) finish() {
	h.mu.Lock()
	h.failing = false
	h.tidyLocked(0)
	h.mu.Unlock()
	h.flush()
	h.mu.Lock()
	whole := !h.failing && len(h.pending) == 0
	h.failing = true // nothing is written any more, nor waited for
	h.mu.Unlock()
	if f := h.writer.f; f != nil {
		h.sync(f) // before it says that it is whole
		if whole && h.write(frame(nil, []byte{kindClean}), false) == nil {
			h.sync(f)
		}
	}
	h.closeFile()
}

func (h *History) closeFile() {
	if h.writer.f != nil {
		if err := h.writer.f.Close(); err != nil {
			h.log.Warn("the placement history is not closed", "err", err)
		}
		h.mu.Lock()
		h.writer.f = nil
		h.mu.Unlock()
	}
}

func (h *History) check(op string) error {
	if h.opts.fault == nil {
		return nil
	}
	return h.opts.fault(op)
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
