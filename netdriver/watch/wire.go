package watch

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/neighbour"
	"github.com/dockline/dockline/netdriver/network"
)

const (
	tickEvery   = time.Second
	reopenAfter = 100 * time.Millisecond // doubled with every failure
	reopenMost  = 5 * time.Second
	refillEvery = 5 * time.Second // whatever happens
)

// wire is one network's part of a wire.
type wire struct {
	m     *Manager
	id    string
	def   network.Definition
	pools []netip.Prefix // those that addresses are given from by us
	log   *slog.Logger

	mu      sync.Mutex    // guards all below; taken with ipam's mutex held, never the other way round
	port    Port          // nil: not open
	fault   string        // why not
	opened  time.Time     // when it was opened last
	pause   time.Duration // before it is opened again
	facts   map[netip.Addr]*fact
	lives   map[netip.Addr]*live
	agenda  agenda
	slot4   time.Time // when the next question that nobody waits for may be begun
	slot6   time.Time
	filled  time.Time // when the reserve was last filled
	filling bool      // a refill is on the agenda

	hearing atomic.Int32 // claims that were received and are not noted yet

	wake    chan struct{}
	quit    chan struct{}
	running bool // guarded by Manager.syncing
	wg      sync.WaitGroup
}

func newWire(m *Manager, d network.Definition) *wire {
	w := &wire{
		m: m, id: d.ID, def: d, log: m.cfg.Log.With("network", network.Short(d.ID)),
		facts: map[netip.Addr]*fact{}, lives: map[netip.Addr]*live{},
		pause: reopenAfter, wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	for _, p := range d.Pools {
		if p.Space == ipam.LocalSpace {
			w.pools = append(w.pools, p.Prefix)
		}
	}
	return w
}

// start opens the port and begins to work. Repeating it does nothing.
func (w *wire) start() {
	if w.running {
		return
	}
	w.running = true
	w.open(reopenAfter)
	w.after(tickEvery, w.tick)
	w.wg.Go(w.run)
}

// stop ends the work and joins it.
func (w *wire) stop() error {
	close(w.quit)
	w.mu.Lock()
	port := w.port
	w.port = nil
	w.forgetLocked()
	w.mu.Unlock()
	var err error
	if port != nil {
		err = port.Close()
	}
	w.wg.Wait()
	return err
}

// run does what is on the agenda, one thing after the other.
func (w *wire) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.mu.Lock()
		do, wait := w.agenda.next(time.Now())
		w.mu.Unlock()
		if do != nil {
			do()
			wait = 0
		}
		timer.Reset(wait)
		select {
		case <-w.quit:
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

func (w *wire) after(d time.Duration, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.afterLocked(d, do)
}

func (w *wire) afterLocked(d time.Duration, do func()) {
	w.agenda.add(time.Now().Add(d), do)
	select {
	case w.wake <- struct{}{}:
	default: // run has not looked since
	}
}

// open opens the port, or has it tried again. A parent may come later.
func (w *wire) open(again time.Duration) {
	port, err := w.m.cfg.Host.Open(w.def)
	if err == nil {
		if err = port.Carrier(); err != nil {
			_ = port.Close()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if w.fault != err.Error() {
			w.fault = err.Error()
			w.log.Warn("cannot look at the wire yet: addresses are given out without a probe", "err", err)
		}
		w.afterLocked(again, func() { w.open(min(2*again, reopenMost)) })
		return
	}
	select {
	case <-w.quit:
		_ = port.Close()
		return
	default:
	}
	back := w.fault != ""
	w.port, w.fault, w.opened = port, "", time.Now()
	if back {
		w.log.Info("looking at the wire again")
		w.announceAllLocked()
	}
	w.refillLocked()
	w.wg.Go(func() { w.receive(port) })
}

func (w *wire) receive(port Port) {
	for {
		c, err := port.Receive()
		if err != nil {
			w.lost(port, err)
			return
		}
		w.hearing.Add(1)
		if w.m.heard != nil {
			w.m.heard(w.id, c)
		}
		w.heard(c)
		w.hearing.Add(-1)
	}
}

// lost gives up a port that does not work any more, as when its link went down.
func (w *wire) lost(port Port, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.port != port {
		return // closed by us
	}
	w.log.Info("cannot look at the wire any more", "err", err)
	w.port, w.fault = nil, err.Error()
	w.forgetLocked()
	w.wg.Go(func() { _ = port.Close() }) // ends receive, which may be the caller
	w.pause = min(2*w.pause, reopenMost)
	if time.Since(w.opened) > reopenMost { // it worked
		w.pause = reopenAfter
	}
	w.afterLocked(w.pause, func() { w.open(reopenAfter) })
}

// ask sends one question, if there is a port to send it by. Most callers have
// nothing to do about one that is not sent.
func (w *wire) ask(a netip.Addr, to []byte) error {
	w.mu.Lock()
	port := w.port
	w.mu.Unlock()
	if port == nil {
		return ErrUnwatched
	}
	w.m.Stats.Asked.Add(1)
	err := port.Ask(a, to)
	if err != nil {
		w.lost(port, err)
	}
	return err
}

// askFor asks for somebody else. Where that is an endpoint of ours it ends the round
// of its check, whose answers could not be told from this one's.
func (w *wire) askFor(a netip.Addr, to []byte) error {
	w.mu.Lock()
	if l := w.lives[a]; l != nil {
		l.asked = false
	}
	w.mu.Unlock()
	return w.ask(a, to)
}

func (w *wire) announce(a netip.Addr, mac []byte) {
	w.mu.Lock()
	port := w.port
	w.mu.Unlock()
	if port == nil {
		return
	}
	w.m.Stats.Announced.Add(1)
	if err := port.Announce(a, mac); err != nil {
		w.lost(port, err)
	}
}

// heard takes note of a claim.
func (w *wire) heard(c neighbour.Claim) {
	w.mu.Lock()
	if l := w.lives[c.Addr]; l != nil {
		w.heardLiveLocked(l, c)
		w.mu.Unlock()
		return
	}
	news := w.newsLocked(c)
	w.mu.Unlock()
	if news && !w.m.holder(c.Addr) {
		w.found(c)
		for _, p := range w.pools {
			if p.Contains(c.Addr) {
				w.m.pools.Foreign(p, c.Addr, c.MAC)
			}
		}
	}
}

// tick is what is done every so often.
func (w *wire) tick() {
	w.mu.Lock()
	port := w.port
	w.mu.Unlock()
	if port != nil {
		if err := port.Carrier(); err != nil {
			w.lost(port, err)
		}
	}
	w.recheck()
	w.checkLives()
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.filled) >= refillEvery {
		w.refillLocked()
	}
	w.afterLocked(tickEvery, w.tick)
}
