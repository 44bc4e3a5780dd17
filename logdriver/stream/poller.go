package stream

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller tells pumps when there is something in their FIFOs, once for each time
// that they ask.
//
// The runtime's own poller would be woken by every write of the engine, whether
// anybody waits or not: it watches for edges, and the kernel makes one of each
// write to a pipe that was ever polled (linux fs/pipe.c, poll_usage). That costs
// more than moving the bytes. So FIFOs are in an epoll of our own, armed for one
// event at a time (EPOLLONESHOT), and only this one is in the runtime's.
type poller struct {
	epoll *os.File
	raw   syscall.RawConn
	done  chan struct{} // closed when run has returned

	mu    sync.Mutex // guards pipes
	pipes map[int32]*pipe
}

// newPoller starts a poller. close ends it.
func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // makes os.NewFile give it to the runtime's poller
	}
	if err != nil {
		return nil, fmt.Errorf("make an epoll for FIFOs: %w", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make an epoll for FIFOs: %w", err), f.Close())
	}
	p := &poller{epoll: f, raw: raw, done: make(chan struct{}), pipes: map[int32]*pipe{}}
	go p.run()
	return p, nil
}

// close ends the poller. Pipes that wait go on waiting.
func (p *poller) close() {
	_ = p.epoll.Close()
	<-p.done
}

func (p *poller) run() {
	defer close(p.done)
	events := make([]unix.EpollEvent, 64)
	for {
		var n int
		var err error
		rerr := p.raw.Read(func(fd uintptr) bool {
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if rerr != nil || err != nil {
			return // closed: nothing else makes either fail
		}
		p.wake(events[:n])
	}
}

func (p *poller) wake(events []unix.EpollEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		if pp := p.pipes[e.Fd]; pp != nil {
			poke(pp.ready)
		}
	}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// add makes a pipe of a descriptor, which becomes the pipe's.
func (p *poller) add(fd int) (*pipe, error) {
	pp := &pipe{poller: p, fd: fd, ready: make(chan struct{}, 1)}
	p.mu.Lock()
	p.pipes[int32(fd)] = pp
	p.mu.Unlock()
	if err := p.control(unix.EPOLL_CTL_ADD, fd, 0); err != nil {
		return nil, errors.Join(err, pp.close())
	}
	return pp, nil
}

func (p *poller) control(op, fd int, events uint32) error {
	var err error
	cerr := p.raw.Control(func(epoll uintptr) {
		err = unix.EpollCtl(int(epoll), op, fd, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(fd)})
	})
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("watch a FIFO: %w", err)
	}
	return nil
}

// pipe is the reading end of a FIFO, which does not block.
type pipe struct {
	poller *poller
	ready  chan struct{} // has a value when an event has come since arm

	mu sync.RWMutex // held for reading while fd is in use, else for closing it
	fd int          // -1 when closed
}

// use runs fn with the descriptor, which stays open meanwhile. The error wraps
// os.ErrClosed where it is closed already.
func (p *pipe) use(fn func(fd int) error) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return fmt.Errorf("use a FIFO: %w", os.ErrClosed)
	}
	return fn(p.fd)
}

// arm asks for a value in ready when there are bytes or no writers, now or
// later.
func (p *pipe) arm() error {
	return p.use(func(fd int) error { return p.poller.control(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN) })
}

// close closes the descriptor when nobody uses it any more.
func (p *pipe) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return nil
	}
	p.poller.mu.Lock()
	delete(p.poller.pipes, int32(p.fd))
	p.poller.mu.Unlock()
	err := unix.Close(p.fd) // which takes it out of the epoll: there is no other descriptor of it
	p.fd = -1
	if err != nil {
		return fmt.Errorf("close a FIFO: %w", err)
	}
	return nil
}
