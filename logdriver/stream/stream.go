// Package stream moves bytes from the engine's FIFOs into the spool, whatever
// happens to anything behind the spool: it depends on no collector, decodes
// nothing and allocates nothing for each record. As long as it runs, the
// engine's writes to a FIFO do not wait.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/fifo"
	"golang.org/x/sys/unix"

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
	// failWait is the pause between two tries at such a disk.
	failWait = 100 * time.Millisecond
)

// ErrGone means that there is no FIFO at the path: the engine that made it has
// removed it.
var ErrGone = errors.New("there is no such FIFO")

// Pumps holds one pump for each attached session.
type Pumps struct {
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	poller *poller    // made by the first Start
	active map[string]*pump
	busy   int // pipes that were made larger
	closed bool

	stopped chan struct{}  // closed with closed
	retries sync.WaitGroup // goroutines of Resume
}

// New returns an empty set of pumps.
func New(log *slog.Logger) *Pumps {
	return &Pumps{log: log, active: map[string]*pump{}, stopped: make(chan struct{})}
}

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
}

// Start opens the session's FIFO and begins to move its bytes. Starting a
// session that is running already does nothing.
func (p *Pumps) Start(se *spool.Session) error {
	p.mu.Lock()
	running, err := p.runningLocked(se)
	p.mu.Unlock()
	if running || err != nil {
		return err
	}
	fd, err := open(se.FIFO())
	if err != nil {
		return fmt.Errorf("open the container's FIFO: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if running, err := p.runningLocked(se); running || err != nil {
		return errors.Join(err, unix.Close(fd)) // somebody was faster
	}
	return p.startLocked(se, fd)
}

// runningLocked reports whether the session is being read. The error says why
// it cannot be.
func (p *Pumps) runningLocked(se *spool.Session) (bool, error) {
	if p.closed {
		return false, errors.New("the plugin is stopping")
	}
	pm := p.active[se.FIFO()]
	if pm != nil && pm.session != se {
		return false, fmt.Errorf("FIFO %s is being read for container %s", se.FIFO(), pm.session.Stream().Container())
	}
	return pm != nil, nil
}

// startLocked begins to read the session from a descriptor, which it takes over.
func (p *Pumps) startLocked(se *spool.Session, fd int) error {
	if p.poller == nil {
		var err error
		if p.poller, err = newPoller(); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
	}
	pipe, err := p.poller.add(fd)
	if err != nil {
		return err
	}
	pm := &pump{owner: p, session: se, pipe: pipe, size: defaultPipe, pause: busyWait, done: make(chan struct{}), stop: make(chan struct{})}
	p.active[se.FIFO()] = pm
	go pm.run()
	return nil
}

// open opens the reading end of a FIFO. Opening one for reading waits for a
// writer, and an engine that died will not come back to this one: so we are
// the writer for that moment, and see the end of file right after.
func open(path string) (fd int, err error) {
	if info, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && info.Mode()&os.ModeNamedPipe == 0 {
		return -1, fmt.Errorf("%w: %s", ErrGone, path)
	} else if err != nil {
		return -1, err
	}
	keeper, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(keeper) }()
	f, err := fifo.OpenFifo(context.Background(), path, syscall.O_RDONLY, 0)
	if err != nil {
		return -1, err
	}
	defer f.Close() // takes it out of the runtime's poller, see poller
	sc, ok := f.(syscall.Conn)
	if !ok {
		return -1, errors.New("the FIFO has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("reach the FIFO's descriptor: %w", err)
	}
	cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(cerr, err)
}

// Resume is Start for a session that a former process was reading. Its engine
// will not ask again, so any error but ErrGone is tried again until it passes.
func (p *Pumps) Resume(se *spool.Session) error {
	err := p.Start(se)
	if err == nil || errors.Is(err, ErrGone) {
		return err
	}
	p.log.Error("a container cannot be read; it is tried again", "container", se.Stream().Container(), "err", err)
	p.retries.Go(func() {
		retry := &backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: 5 * time.Second}
		for err != nil {
			select {
			case <-p.stopped:
				return
			case <-time.After(retry.NextBackOff()):
			}
			if err = p.Start(se); errors.Is(err, ErrGone) {
				_ = se.Detach() // the spool reports it where it matters: nothing was read
				return
			}
		}
	})
	return nil
}

// Stop moves what is in the FIFO and ends its session. The engine writes
// nothing more once it has called StopLogging, so empty means finished; waiting
// for the end of file would be a deadlock. A FIFO that is not known is fine.
func (p *Pumps) Stop(path string) error {
	p.mu.Lock()
	pm := p.active[path]
	p.mu.Unlock()
	if pm == nil {
		return nil
	}
	err := pm.finish()
	pm.end()
	<-pm.done
	return err
}

// Container returns the id of the container whose FIFO is read at path, "" where
// none is.
func (p *Pumps) Container(path string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pm := p.active[path]; pm != nil {
		return pm.session.Stream().Container()
	}
	return ""
}

// Len returns the number of sessions being read.
func (p *Pumps) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.active)
}

// Close stops reading without ending any session: the next process goes on
// where this one stopped.
func (p *Pumps) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.stopped)
	}
	all := make([]*pump, 0, len(p.active))
	for _, pm := range p.active {
		all = append(all, pm)
	}
	p.mu.Unlock()
	for _, pm := range all {
		pm.end()
		<-pm.done
	}
	p.retries.Wait()
	if p.poller != nil {
		p.poller.close()
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
		pm.discard(err)
	}
	return pm.session.Detach()
}

// discard drops what is in the pipe.
func (pm *pump) discard(why error) {
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
	if total > 0 {
		pm.owner.log.Error("bytes of a container were dropped: they could not be spooled", "container", pm.session.Stream().Container(), "bytes", total, "err", why)
	}
}

// empty splices until nothing is left. It returns nil then, and when the
// session was ended by somebody else.
func (pm *pump) empty(fd int) error {
	for {
		n, err := pm.splice(fd)
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
func (pm *pump) splice(fd int) (int, error) {
	for {
		n, err := pm.session.Splice(fd, moveBytes)
		var busy *spool.BusyError
		if !errors.As(err, &busy) {
			return n, err
		}
		if err := pm.owner.supersede(busy.Other); err != nil {
			return 0, err
		}
	}
}

func (p *Pumps) supersede(old *spool.Session) error {
	p.mu.Lock()
	pm := p.active[old.FIFO()]
	p.mu.Unlock()
	if pm == nil {
		return old.Detach()
	}
	err := pm.finish()
	pm.end() // not waited for: the caller may hold a pipe's descriptor
	if err != nil {
		return err
	}
	return remove(old.FIFO())
}

// end makes run return.
func (pm *pump) end() { pm.once.Do(func() { close(pm.stop) }) }

func (pm *pump) run() {
	defer close(pm.done)
	defer pm.leave()
	var failing time.Time // since when
	for {
		n, err := pm.move()
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
		failing = time.Time{}
		if pm.full(n) {
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
		pm.owner.log.Error("a container's records cannot be spooled", "container", pm.session.Stream().Container(), "err", err)
	}
	if time.Since(*since) >= patience {
		pm.discard(err)
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
		pm.owner.log.Error("a session could not be ended", "container", pm.session.Stream().Container(), "err", err)
	}
}

// remove deletes a FIFO that no engine has open.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete a FIFO: %w", err)
	}
	return nil
}

// move waits for bytes and moves them. The error wraps os.ErrClosed where the
// pump was ended.
func (pm *pump) move() (n int, err error) {
	for {
		err := pm.pipe.use(func(fd int) (err error) {
			n, err = pm.splice(fd)
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
	if err := pm.pipe.close(); err != nil {
		pm.owner.log.Warn("a FIFO was not closed well", "container", pm.session.Stream().Container(), "err", err)
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
