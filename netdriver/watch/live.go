package watch

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/neighbour"
	"github.com/dockline/dockline/netdriver/network"
)

const (
	// checkEvery is how often it is asked who has an endpoint's address, where
	// there are few, and checkWithin in which time all are asked for, where there
	// are more: a conflict is known within ten seconds. A port that switches let
	// speak of few addresses only (see slotEvery) has no hundreds of containers:
	// they ask for their neighbours more often than that. checksMost is where
	// it ends, and each round takes longer; who speaks of himself is heard at
	// once all the same.
	checkEvery  = 5 * time.Second
	checkWithin = 7 * time.Second
	checksLeast = 4 // a tick
	checksMost  = 64

	// twinRounds is how many questions in a row must have been answered twice in
	// the name of an endpoint's own MAC. That is how two hosts look that gave
	// the same address: the MAC follows from it. The first time it happens it is
	// asked again at once.
	twinRounds = 3
	twinAgain  = 200 * time.Millisecond

	conflictOver = 30 * time.Second // without a sign of it
)

// A new endpoint is asked so often, and for so long, whether it is there: as long
// as nobody was told that it is, whoever knew it on another host talks to that
// one. Such questions stay on this host.
const (
	confirmEvery  = 25 * time.Millisecond
	confirmWithin = 2 * time.Second
)

// announceAt is when, after it answered or could have, its addresses are
// announced: three times as a frame may get lost (RFC 4861, 10).
var announceAt = milliseconds(0, 1000, 3000)

func milliseconds(all ...int) []time.Duration {
	d := make([]time.Duration, len(all))
	for i, n := range all {
		d[i] = time.Duration(n) * time.Millisecond
	}
	return d
}

// live is an address that an endpoint of ours has in a sandbox.
type live struct {
	addr     netip.Addr
	endpoint string
	mac      net.HardwareAddr

	up       bool      // it has answered, or it was not waited for
	answered time.Time // by itself, last
	checked  time.Time
	asked    bool // everybody, not only itself, and nobody for others since (see Manager.Ask)
	answers  int  // by its MAC to the last check
	twins    int  // checks in a row with more than one
	conflict *Conflict
}

// Conflict is a machine that has an address which an endpoint of ours has.
type Conflict struct {
	Network  string     `json:"network"`
	Endpoint string     `json:"endpoint"`
	Addr     netip.Addr `json:"address"`
	MAC      string     `json:"mac"` // of the other machine
	Since    time.Time  `json:"since"`
	Last     time.Time  `json:"last"` // when it was last noticed
}

// follow takes over which endpoints there are. Those of the first time were
// there before this process and are not announced.
func (w *wire) follow(all []endpoint.Endpoint, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	there := map[netip.Addr]bool{}
	for _, e := range all {
		if !e.Joined {
			continue
		}
		for _, a := range e.Addrs() {
			there[a] = true
			if l := w.lives[a]; l == nil || l.endpoint != e.ID {
				w.arriveLocked(&live{addr: a, endpoint: e.ID, mac: e.MAC, up: first, checked: time.Now()})
			}
		}
	}
	for a, l := range w.lives {
		if !there[a] {
			w.departLocked(l)
		}
	}
}

func (w *wire) arriveLocked(l *live) {
	w.lives[l.addr] = l
	if f := w.facts[l.addr]; f != nil {
		f.end()
		delete(w.facts, l.addr)
	}
	if l.up {
		return
	}
	w.afterLocked(0, func() { w.confirm(l) })
	w.afterLocked(confirmWithin, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.upLocked(l) // it may be that it answers nobody
	})
}

func (w *wire) confirm(l *live) {
	if !w.waitsFor(l) {
		return
	}
	_ = w.ask(l.addr, l.mac)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.afterLocked(confirmEvery, func() { w.confirm(l) })
}

// departLocked counts an address that we heard to be ours alone among those that
// are free; any other is asked for when its frames are gone.
func (w *wire) departLocked(l *live) {
	delete(w.lives, l.addr)
	if w.port == nil {
		return
	}
	ours := !l.answered.IsZero() && l.conflict == nil
	w.facts[l.addr] = &fact{known: ours, since: time.Now(), left: string(l.mac), freed: time.Now()}
	w.refillLocked()
	if !ours {
		w.roundLocked(l.addr, slow, leftover)
	}
}

func (w *wire) waitsFor(l *live) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lives[l.addr] == l && !l.up
}

// upLocked has an endpoint's address announced, once.
func (w *wire) upLocked(l *live) {
	if l.up {
		return
	}
	l.up = true
	for _, at := range announceAt {
		w.announceLocked(l, at)
	}
}

func (w *wire) announceLocked(l *live, delay time.Duration) {
	w.afterLocked(delay, func() {
		w.mu.Lock()
		still := w.lives[l.addr] == l
		w.mu.Unlock()
		if still {
			w.announce(l.addr, l.mac)
		}
	})
}

// announceAllLocked is for a wire that is back: who came while it was away was
// announced to nobody, and the others may be behind another port of a switch now.
func (w *wire) announceAllLocked() {
	n, every := 0, tickEvery/time.Duration(checksPerTick(len(w.lives)))
	for _, l := range w.lives {
		if l.up {
			w.announceLocked(l, time.Duration(n)*every)
			n++
		}
	}
}

func (w *wire) heardLiveLocked(l *live, c neighbour.Claim) {
	if string(c.MAC) == string(l.mac) {
		if c.Answer {
			l.answered = time.Now()
			w.upLocked(l)
			w.twinLocked(l)
		}
		return
	}
	// A container with two links on one wire answers by both for both (arp_ignore=0).
	if !w.m.index.Load().macs[string(c.MAC)] {
		w.conflictLocked(l, c.MAC)
	}
}

func (w *wire) conflictLocked(l *live, mac net.HardwareAddr) {
	now := time.Now()
	if l.conflict != nil && l.conflict.MAC == mac.String() {
		l.conflict.Last = now
		return
	}
	l.conflict = &Conflict{Network: w.id, Endpoint: l.endpoint, Addr: l.addr, MAC: mac.String(), Since: now, Last: now}
	w.m.Stats.Conflicts.Add(1)
	w.note(Conflicting, l.endpoint, l.addr, mac.String())
	what := "another machine has the address of an endpoint"
	if string(mac) == string(l.mac) {
		what = "another machine has the address and the MAC of an endpoint (two hosts give out the same addresses: give each an --ip-range of its own)"
	}
	w.log.Warn(what, "endpoint", network.Short(l.endpoint), "address", l.addr, "mac", l.mac.String(), "other", mac.String())
}

// checkLives asks who has our endpoints' addresses, the longest unasked first,
// in even steps until the next tick.
func (w *wire) checkLives() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.port == nil {
		return // what cannot be asked says nothing, neither that a conflict is over
	}
	var all, due [2][]*live // by family
	for _, l := range w.lives {
		w.calmLocked(l)
		if !l.up {
			continue
		}
		family := 0
		if l.addr.Is6() {
			family = 1
		}
		all[family] = append(all[family], l)
		if time.Since(l.checked) >= checkEvery-tickEvery/2 {
			due[family] = append(due[family], l)
		}
	}
	for family, due := range due {
		slices.SortFunc(due, func(a, b *live) int { return a.checked.Compare(b.checked) })
		n := min(len(due), checksPerTick(len(all[family])))
		for i, l := range due[:n] {
			w.checkLocked(l, time.Duration(i)*tickEvery/time.Duration(n))
		}
	}
}

// checksPerTick is how many addresses of so many are asked for.
func checksPerTick(lives int) int {
	const ticks = int(checkWithin / tickEvery)
	return min(max((lives+ticks-1)/ticks, checksLeast), checksMost)
}

// checkLocked has an address asked for, if it is an endpoint's still.
func (w *wire) checkLocked(l *live, delay time.Duration) {
	w.afterLocked(delay, func() {
		w.mu.Lock()
		still := w.lives[l.addr] == l
		w.mu.Unlock()
		if still {
			w.check(l)
		}
	})
}

// check begins the next round of answers.
func (w *wire) check(l *live) {
	w.mu.Lock()
	if l.answers < 2 {
		l.twins = 0
	}
	l.checked, l.answers, l.asked = time.Now(), 0, true
	w.mu.Unlock()
	_ = w.ask(l.addr, nil)
}

// twinLocked counts an answer, and looks at the second one to one question.
func (w *wire) twinLocked(l *live) {
	if !l.asked {
		return
	}
	if l.answers++; l.answers != 2 {
		return
	}
	if l.twins++; l.twins >= twinRounds {
		w.conflictLocked(l, l.mac)
		return
	}
	w.checkLocked(l, twinAgain)
}

// calmLocked ends a conflict of which there is no sign any more, although it was
// asked for one.
func (w *wire) calmLocked(l *live) {
	if l.conflict != nil && time.Since(l.conflict.Last) > conflictOver && l.checked.After(l.conflict.Last) {
		w.log.Info("an endpoint has its address for itself again", "endpoint", network.Short(l.endpoint), "address", l.addr, "other", l.conflict.MAC)
		w.note(Settled, l.endpoint, l.addr, l.conflict.MAC)
		l.conflict = nil
	}
}
