package watch

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/neighbour"
)

const (
	// reserveSize is how many addresses of a pool are kept known to be free: as
	// many as containers may start while others are being asked for.
	reserveSize = 16
	// spares is how many addresses more that endpoints have left are kept known
	// to be free, for containers that come back. More could not be asked for
	// again in time.
	spares   = 16
	maxFacts = 4096 // of a network; a wire may hold more machines than that

	// Switches with ARP inspection take a port out of service for more than 15
	// ARP packets a second (the usual limit), so what nobody waits for goes out
	// slowly: one address after the other, a few at once in the beginning.
	// Neighbour solicitations go to few machines only.
	slotEvery  = 600 * time.Millisecond
	slotEvery6 = 100 * time.Millisecond
	slotBurst  = 4

	recheckFree = 30 * time.Second
	recheckUsed = time.Minute
	leftover    = 5 * time.Second // frames of an endpoint that has left may still come

	// What has come and is not noted is waited for, on a host that has no time for us;
	// on a wire that is never silent, not for ever.
	readAgain = 10 * time.Millisecond
	readTries = 20
)

// pace says when a question is repeated, and after which silence nobody has the
// address. RFC 5227 (2.1.1) has three probes too, over some seconds: time that
// only those have whom nobody waits for.
type pace struct {
	asks    []time.Duration
	verdict time.Duration
}

var (
	slow = pace{[]time.Duration{0, 300 * time.Millisecond, 600 * time.Millisecond}, time.Second}
	fast = pace{[]time.Duration{0, 40 * time.Millisecond, 80 * time.Millisecond}, 150 * time.Millisecond}
)

// fact is what is known of an address that no endpoint of ours has.
type fact struct {
	mac   net.HardwareAddr // who has it; nil: nobody, or not known yet
	known bool             // there was a verdict
	since time.Time        // since it is used, or when it was last asked for in vain
	heard time.Time        // used: when its holder was last heard
	asked time.Time        // used: when it was last asked for
	told  time.Time        // used: when the pools were last told

	round int           // of questions; those of an earlier one are void
	hurry bool          // the round is a fast one
	done  chan struct{} // closed with the verdict of the round; nil: none is under way
	left  string        // the MAC of our endpoint that had it
	freed time.Time     // when that endpoint left
}

func (f *fact) free() bool { return f.known && f.mac == nil }

func (f *fact) end() {
	f.round++
	f.hurry = false
	if f.done != nil {
		close(f.done)
		f.done = nil
	}
}

// forgetLocked drops what was only known to be free: nobody listens any more.
// Who waits for a verdict gets none.
func (w *wire) forgetLocked() {
	for a, f := range w.facts {
		f.end()
		if f.mac == nil {
			delete(w.facts, a)
		}
	}
}

func (w *wire) look(a netip.Addr) ipam.Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.facts[a]
	switch {
	case w.port == nil:
		return ipam.Finding{Known: ipam.NotAsked}
	case f == nil || !f.known:
		return ipam.Finding{Known: ipam.Unknown}
	case f.mac == nil:
		return ipam.Finding{Known: ipam.Free, Since: f.since}
	}
	return ipam.Finding{Known: ipam.Used, MAC: f.mac, Since: f.since, Heard: f.heard}
}

func (w *wire) reserve(pool netip.Prefix) (free []netip.Addr, asking bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, f := range w.facts {
		if f.free() && pool.Contains(a) {
			free = append(free, a)
		}
	}
	return free, w.port != nil
}

// probe asks for addresses that somebody waits for, and returns when it is
// known of each whether it is free.
func (w *wire) probe(addrs []netip.Addr) {
	var wait []<-chan struct{}
	w.mu.Lock()
	for _, a := range addrs {
		if w.port != nil {
			wait = append(wait, w.roundLocked(a, fast, 0))
		}
	}
	w.mu.Unlock()
	for _, done := range wait {
		<-done
	}
}

// taken says that an address has been given away.
func (w *wire) taken(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.facts[a]; f != nil {
		f.end()
		delete(w.facts, a)
	}
	w.refillLocked()
}

// roundLocked begins to ask for an address, after a delay, unless that is under
// way at least as fast.
func (w *wire) roundLocked(a netip.Addr, p pace, delay time.Duration) <-chan struct{} {
	hurry := p.verdict == fast.verdict
	f := w.facts[a]
	if f == nil {
		f = &fact{}
		w.facts[a] = f
	}
	if f.done != nil && (f.hurry || !hurry) {
		return f.done
	}
	if f.done == nil {
		f.done = make(chan struct{})
	}
	f.round++
	f.hurry, f.asked = hurry, time.Now()
	round := f.round
	w.afterLocked(delay, func() { w.step(a, round, p, 0) })
	return f.done
}

// step asks for the time n of a round, or ends it. How long an answer has is counted
// from when its question has gone: a host that has no time for us is late with that.
func (w *wire) step(a netip.Addr, round int, p pace, n int) {
	if !w.inRound(a, round) {
		return
	}
	if n == len(p.asks) {
		w.verdict(a, round, readTries)
		return
	}
	_ = w.ask(a, nil)
	next := p.verdict
	if n+1 < len(p.asks) {
		next = p.asks[n+1]
	}
	w.after(next-p.asks[n], func() { w.step(a, round, p, n+1) })
}

// verdict ends a round in which nobody answered once everything is noted that has come
// so far: the answer may be in it. Where there is no carrier silence says nothing, and
// tick may not have seen that yet.
func (w *wire) verdict(a netip.Addr, round, tries int) {
	w.mu.Lock()
	port := w.port
	w.mu.Unlock()
	if port == nil {
		return // which has ended the round
	}
	if tries > 0 && (port.Unread() || w.hearing.Load() > 0) {
		w.after(readAgain, func() { w.verdict(a, round, tries-1) })
		return
	}
	if err := port.Carrier(); err != nil {
		w.lost(port, err)
		return
	}
	w.silent(a, round)
}

func (w *wire) inRound(a netip.Addr, round int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.facts[a]
	return f != nil && f.round == round
}

// silent ends a round in which nobody answered.
func (w *wire) silent(a netip.Addr, round int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.facts[a]
	if f == nil || f.round != round {
		return
	}
	if f.mac != nil {
		w.log.Info("nobody answers for an address any more, it can be given out again", "address", a, "mac", f.mac.String())
		w.note(Freed, "", a, f.mac.String())
	}
	f.mac, f.known, f.since = nil, true, time.Now()
	f.end()
}

// newsLocked reports whether a claim of an address that no endpoint of ours has
// says anything new, or what others are to be told again. What is not of our pools is nobody's concern.
func (w *wire) newsLocked(c neighbour.Claim) bool {
	if w.port == nil || !slices.ContainsFunc(w.pools, func(p netip.Prefix) bool { return p.Contains(c.Addr) }) {
		return false
	}
	f := w.facts[c.Addr]
	switch {
	case f == nil:
		return len(w.facts) < maxFacts
	case f.left == string(c.MAC) && f.mac == nil && time.Since(f.since) < leftover:
		return false
	case f.mac != nil && f.done == nil && string(f.mac) == string(c.MAC):
		f.heard = time.Now()
		return time.Since(f.told) > recheckUsed // who speaks often is not asked
	}
	return true
}

// found notes who has an address.
func (w *wire) found(c neighbour.Claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lives[c.Addr] != nil || w.port == nil {
		return
	}
	f := w.facts[c.Addr]
	asked := f != nil
	if f == nil { // who speaks of himself: a LAN is full of them
		f = &fact{}
		w.facts[c.Addr] = f
	}
	now := time.Now()
	if f.mac == nil {
		f.since = now
	}
	if f.mac == nil && asked {
		w.m.Stats.Answered.Add(1)
		w.log.Info("an address that was to be given out is in use by another machine", "address", c.Addr, "mac", c.MAC.String())
	}
	if string(f.mac) != string(c.MAC) {
		w.note(Quarantined, "", c.Addr, c.MAC.String())
	}
	f.mac, f.known, f.heard, f.told = c.MAC, true, now, now
	f.end()
	w.refillLocked()
}

// recheck asks again for one address of each family that is free, and for one
// that is used, of those that nothing was heard of for long.
func (w *wire) recheck() {
	w.mu.Lock()
	var free [2]netip.Addr
	var longest netip.Addr
	for a, f := range w.facts {
		family := &free[0]
		if a.Is6() {
			family = &free[1]
		}
		switch {
		case f.done != nil || !f.known:
		case f.mac == nil:
			if time.Since(f.since) > recheckFree && (!family.IsValid() || f.since.Before(w.facts[*family].since)) {
				*family = a
			}
		case time.Since(f.heard) > recheckUsed && time.Since(f.asked) > recheckUsed:
			if !longest.IsValid() || f.asked.Before(w.facts[longest].asked) {
				longest = a
			}
		}
	}
	if longest.IsValid() {
		w.roundLocked(longest, slow, 0)
	}
	for _, a := range free {
		if a.IsValid() {
			w.facts[a].since = time.Now()
		}
	}
	w.mu.Unlock()
	for _, a := range free {
		if a.IsValid() {
			_ = w.ask(a, nil)
		}
	}
}

// refillLocked has the reserve filled soon.
func (w *wire) refillLocked() {
	if w.filling || w.port == nil || len(w.pools) == 0 {
		return
	}
	w.filling = true
	w.afterLocked(0, w.refill)
}

// refill asks for those of the next addresses of which nothing is known. The
// pools are asked without the mutex: they hold theirs when they ask us.
func (w *wire) refill() {
	w.mu.Lock()
	w.filling, w.filled = false, time.Now() // what changes from here on is seen by the next
	w.mu.Unlock()
	for _, pool := range w.pools {
		next := w.m.pools.Candidates(pool, reserveSize, w.has)
		w.mu.Lock()
		for _, a := range next {
			if w.facts[a] == nil && w.port != nil {
				w.roundLocked(a, slow, w.slotLocked(a))
			}
		}
		w.dropSparesLocked(pool, next)
		w.mu.Unlock()
	}
}

// dropSparesLocked forgets what is known to be free, is not one of the next
// addresses, and was not left lately by an endpoint.
func (w *wire) dropSparesLocked(pool netip.Prefix, next []netip.Addr) {
	var spare []netip.Addr
	for a, f := range w.facts {
		if f.free() && f.done == nil && pool.Contains(a) && !slices.Contains(next, a) {
			spare = append(spare, a)
		}
	}
	slices.SortFunc(spare, func(a, b netip.Addr) int { return w.facts[b].freed.Compare(w.facts[a].freed) })
	for _, a := range spare[min(spares, len(spare)):] {
		delete(w.facts, a)
	}
}

// has reports whether somebody has an address.
func (w *wire) has(a netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.facts[a]
	return f != nil && f.mac != nil || w.lives[a] != nil
}

// slotLocked returns how long a round that nobody waits for has to wait.
func (w *wire) slotLocked(a netip.Addr) time.Duration {
	slot, every := &w.slot4, slotEvery
	if a.Is6() {
		slot, every = &w.slot6, slotEvery6
	}
	now := time.Now()
	if earliest := now.Add(-slotBurst * every); slot.Before(earliest) {
		*slot = earliest
	}
	*slot = slot.Add(every)
	return max(0, slot.Sub(now))
}
