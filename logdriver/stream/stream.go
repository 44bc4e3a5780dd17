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

// ErrGone means that there is no FIFO at the path: the engine that made it has
// removed it.
var ErrGone = errors.New("there is no such FIFO")

// Pumps holds one pump for each attached session.
type Pumps struct {
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	poller *poller    // made by the first Start
	active map[string]*pump
	busy   int           // pipes that were made larger
	slowed time.Duration // how long containers were held up, see trickle
	closed bool

	stopped chan struct{}  // closed with closed
	retries sync.WaitGroup // goroutines of Resume
}

// New returns an empty set of pumps.
func New(log *slog.Logger) *Pumps {
	return &Pumps{log: log, active: map[string]*pump{}, stopped: make(chan struct{})}
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
	p.log.Error("a container cannot be read; it is tried again", "container", se.Stream().Name(), "stream", se.Stream().ID(), "err", err)
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

// Slowed returns how long containers were held up because they are throttled,
// all of them together.
func (p *Pumps) Slowed() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slowed
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

// remove deletes a FIFO that no engine has open.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete a FIFO: %w", err)
	}
	return nil
}
