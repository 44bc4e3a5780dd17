package stream

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/logdriver/spool"
)

const (
	// defaultPipe is the size of a pipe as the kernel makes it.
	defaultPipe = 64 << 10
	// busyPipe is the size that the pipe of a busy stream is given.
	busyPipe = 256 << 10
	// maxBusyPipes keeps us well below the 16,384 pages that the kernel allows
	// to all pipes of root together (pipe(7), pipe-user-pages-soft): beyond
	// them, other programs would get pipes of one page.
	maxBusyPipes = 48
	// busyWait is how long a pump waits after a splice that moved little, so
	// that the next one moves many records: each wake-up costs more than
	// moving them, for the engine too, which has to do the waking.
	busyWait = 500 * time.Microsecond
	// largeWait is busyWait for a pipe that was made larger: at the rate at
	// which an engine can write to one FIFO it is half full after this time.
	largeWait = 2 * time.Millisecond
	// moveBytes bounds one splice.
	moveBytes = 1 << 20
	// stopTries bounds how often a stop tries to move what is left to a disk
	// that fails: StopLogging is called with the engine's locks held.
	stopTries = 3
	// patience is how long a disk may fail before what is in the pipe is
	// dropped: a pipe that is not read stops the container, and every call of
	// the engine about it.
	patience = 2 * time.Second
	// A throttled container may write so much, and again after so long: 256 KiB
	// a second. It is never stopped: the engine would be held up with it, and
	// could not even stop the container. Nor is it slower: the engine holds up to
	// 1 MB of a container's output in memory, and what it cannot write within 10 s
	// of the container's end it throws away (moby pkg/ioutils/bytespipe.go,
	// daemon/monitor.go).
	trickleBytes = 64 << 10
	trickleWait  = 250 * time.Millisecond
	// failWait is the pause between two tries at such a disk.
	failWait = 100 * time.Millisecond
)

// pump moves the bytes of one session.
type pump struct {
	owner   *Pumps
	session *spool.Session
	pipe    *pipe         // closed by run
	asked   bool          // for a larger pipe
	size    int           // of the pipe
	pause   time.Duration // after a splice that did not find the pipe nearly full
	counted bool          // among the busy ones; guarded by owner.mu
	done    chan struct{} // closed when run has returned
	stop    chan struct{} // closed when it shall
	once    sync.Once
	dropped dropped
}

// dropped are bytes of which nothing was said yet. The pump and its end count them.
type dropped struct {
	mu     sync.Mutex
	bytes  int
	why    error
	seldom pluginlog.Seldom
}

// add counts bytes, and returns how many are to be spoken of now, if any are, and
// why. Where that was the last of them they all are.
func (d *dropped) add(n int, why error, last bool) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > 0 {
		d.bytes, d.why = d.bytes+n, why
	}
	if d.bytes == 0 {
		return 0, nil
	}
	if _, due := d.seldom.Due(time.Now()); !due && !last {
		return 0, nil
	}
	n, d.bytes = d.bytes, 0
	return n, d.why
}

// sayDropped says that bytes were dropped, now or once that has gone on for a while.
func (pm *pump) sayDropped(n int, why error, last bool) {
	if n, why := pm.dropped.add(n, why, last); n > 0 {
		pm.owner.log.Error("bytes of a container were dropped: they could not be spooled", "container", pm.session.Stream().Name(), "stream", pm.session.Stream().ID(), "bytes", n, "err", why)
	}
}

// finish empties the pipe and detaches the session.
func (pm *pump) finish() error {
	var err error
	for range stopTries {
		err = pm.pipe.use(pm.empty)
		if errors.Is(err, os.ErrClosed) {
			err = nil // the pump has ended meanwhile and left nothing
		}
		if err == nil {
			break
		}
	}
	if err != nil {
		pm.discard(err, true)
	}
	return pm.session.Detach()
}

// discard drops what is in the pipe.
func (pm *pump) discard(why error, end bool) {
	total := 0
	_ = pm.pipe.use(func(fd int) error {
		for {
			n, err := pm.session.Discard(fd, defaultPipe)
			if n <= 0 || err != nil {
				return err
			}
			total += n
		}
	})
	pm.sayDropped(total, why, end)
}

// empty splices until nothing is left. It returns nil then, and when the
// session was ended by somebody else.
func (pm *pump) empty(fd int) error {
	for {
		n, err := pm.splice(fd, moveBytes)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, spool.ErrEnded), err == nil && n == 0:
			return nil
		case err != nil:
			return err
		}
	}
}

// splice moves bytes, ending a session that is in the way first: its engine
// is gone, or this one would not have been given a FIFO for the container.
func (pm *pump) splice(fd, most int) (int, error) {
	for {
		n, err := pm.session.Splice(fd, most)
		var busy *spool.BusyError
		if !errors.As(err, &busy) {
			return n, err
		}
		if err := pm.owner.supersede(busy.Other); err != nil {
			return 0, err
		}
	}
}

// end makes run return.
func (pm *pump) end() { pm.once.Do(func() { close(pm.stop) }) }

func (pm *pump) run() {
	defer close(pm.done)
	defer pm.leave()
	var failing time.Time // since when
	for {
		slow, room := pm.session.Slow()
		most := moveBytes
		if slow {
			most = trickleBytes
		}
		n, err := pm.move(most)
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(err, spool.ErrEnded):
			return
		case err != nil:
			if !pm.failed(&failing, err) {
				return
			}
			continue
		case n == 0:
			pm.bury()
			return
		}
		if !failing.IsZero() {
			failing = time.Time{}
			pm.sayDropped(0, nil, true)
		}
		if slow {
			if !pm.trickle(room) {
				return
			}
		} else if pm.full(n) {
			pm.grow()
		} else if !pm.wait(pm.pause) {
			return
		}
	}
}

// failed is for a disk that takes nothing: it waits a moment, and drops what is
// in the pipe once that has gone on for too long. It returns false if the pump
// was ended meanwhile.
func (pm *pump) failed(since *time.Time, err error) bool {
	if since.IsZero() {
		*since = time.Now()
		pm.owner.log.Error("a container's records cannot be spooled", "container", pm.session.Stream().Name(), "stream", pm.session.Stream().ID(), "err", err)
	}
	if time.Since(*since) >= patience {
		pm.discard(err, false)
	}
	return pm.wait(failWait)
}

// bury ends a session whose engine is gone. That engine will not delete its
// FIFO, and the next one does not know of it.
func (pm *pump) bury() {
	err := pm.session.Detach()
	if err == nil {
		err = remove(pm.session.FIFO())
	}
	if err != nil {
		pm.owner.log.Error("a session could not be ended", "container", pm.session.Stream().Name(), "stream", pm.session.Stream().ID(), "err", err)
	}
}

// move waits for bytes and moves them. The error wraps os.ErrClosed where the
// pump was ended.
func (pm *pump) move(most int) (n int, err error) {
	for {
		err := pm.pipe.use(func(fd int) (err error) {
			n, err = pm.splice(fd, most)
			return err
		})
		if !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
		if err := pm.pipe.arm(); err != nil {
			return 0, err
		}
		select {
		case <-pm.pipe.ready:
		case <-pm.stop:
			return 0, os.ErrClosed
		}
	}
}

// trickle holds a throttled container up, for a moment or until there is room.
// It returns false if the pump was ended meanwhile.
func (pm *pump) trickle(room <-chan struct{}) bool {
	began := time.Now()
	defer func() {
		pm.owner.mu.Lock()
		defer pm.owner.mu.Unlock()
		pm.owner.slowed += time.Since(began)
	}()
	t := time.NewTimer(trickleWait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-room:
	case <-pm.stop:
		return false
	}
	return true
}

// wait returns false if the pump was ended meanwhile.
func (pm *pump) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-pm.stop:
		return false
	}
}

// full reports whether a splice of n bytes has emptied a pipe that was nearly
// full. Pipes hold less than their size: the kernel puts no write that fits in a
// page across two, so that each page's end stays empty.
func (pm *pump) full(n int) bool { return n >= pm.size/4*3 }

// grow gives a busy stream a larger pipe, as long as there are few of them.
// Being refused is normal.
func (pm *pump) grow() {
	if pm.asked {
		return
	}
	pm.asked = true
	pm.owner.mu.Lock()
	pm.counted = pm.owner.busy < maxBusyPipes
	if pm.counted {
		pm.owner.busy++
	}
	pm.owner.mu.Unlock()
	if !pm.counted {
		return
	}
	_ = pm.pipe.use(func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, busyPipe)
		if err == nil {
			pm.size, pm.pause = busyPipe, largeWait
		}
		return err
	})
}

func (pm *pump) leave() {
	pm.end()
	pm.sayDropped(0, nil, true)
	if err := pm.pipe.close(); err != nil {
		pm.owner.log.Warn("a FIFO was not closed well", "container", pm.session.Stream().Name(), "stream", pm.session.Stream().ID(), "err", err)
	}
	pm.owner.mu.Lock()
	defer pm.owner.mu.Unlock()
	if pm.owner.active[pm.session.FIFO()] == pm {
		delete(pm.owner.active, pm.session.FIFO())
	}
	if pm.counted {
		pm.counted = false
		pm.owner.busy--
	}
}
