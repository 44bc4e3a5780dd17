package main

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/dockline/dockline/test/harness/program"
)

// deed is what was asked of an address.
type deed int

const (
	take deed = iota
	free
)

// outcome is what is known of it.
type outcome int

const (
	done    outcome = iota
	refused         // a take: somebody has it
	unclear         // it may have happened, at any time since
)

const forever = time.Duration(math.MaxInt64)

// ask is porcupine's input, an outcome its output.
type ask struct {
	what  deed
	owner string
}

// call is one call that concerned an address, from its begin to its end.
type call struct {
	ask
	out        outcome
	begin, end time.Duration // on the ledger's clock
}

// ledger is what those who asked for addresses know.
type ledger struct {
	begun time.Time

	mu          sync.Mutex // guards all below
	owners      map[netip.Addr]string
	history     map[netip.Addr][]call
	allocations int
	duplicates  []string
	changed     []string
}

func newLedger() *ledger {
	return &ledger{begun: time.Now(), owners: map[netip.Addr]string{}, history: map[netip.Addr][]call{}}
}

func (l *ledger) now() time.Duration { return time.Since(l.begun) }

// taken says that a call which began then gave an address.
func (l *ledger) taken(a netip.Addr, owner string, begin time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allocations++
	l.history[a] = append(l.history[a], call{ask{take, owner}, done, begin, l.now()})
	if other := l.owners[a]; other != "" {
		l.duplicates = append(l.duplicates, fmt.Sprintf("%s: %s and %s", a, other, owner))
		program.Say("GIVEN TWICE: %s to %s and %s", a, other, owner)
	}
	l.owners[a] = owner
}

// refused says that a call for that very address did not give it, or may have.
func (l *ledger) refused(a netip.Addr, owner string, begin time.Duration, out outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history[a] = append(l.history[a], call{ask{take, owner}, out, begin, l.ended(out)})
}

// ended is the end of a call: one whose outcome is not clear may come into effect
// as long as anything does.
func (l *ledger) ended(out outcome) time.Duration {
	if out == unclear {
		return forever
	}
	return l.now()
}

// releasing says that an owner does not have its address any more, and is about
// to say so.
func (l *ledger) releasing(a netip.Addr, owner string) (begin time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owners[a] == owner {
		delete(l.owners, a)
	}
	return l.now()
}

// released says how that went.
func (l *ledger) released(a netip.Addr, owner string, begin time.Duration, out outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history[a] = append(l.history[a], call{ask{free, owner}, out, begin, l.ended(out)})
}

// replayed says what came of asking again for an address that its owner has.
func (l *ledger) replayed(a netip.Addr, owner, got string) {
	if got == a.String() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = append(l.changed, fmt.Sprintf("%s of %s: %s", a, owner, got))
	program.Say("CHANGED: %s of %s is %s", a, owner, got)
}

// held returns who has what.
func (l *ledger) held() map[netip.Addr]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(map[netip.Addr]string, len(l.owners))
	for a, o := range l.owners {
		held[a] = o
	}
	return held
}

// nobody is the state of an address without an owner; else it is his name.
const nobody = ""

// register is an address: whoever takes it has it until he frees it.
var register = porcupine.Model{
	Init: func() any { return nobody },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(string), input.(ask), output.(outcome)) //nolint:forcetypeassert // our own
	},
}

// step returns the state that follows a call with that outcome, and whether it can
// have had that outcome. Of calls that are not clear only releases come here.
func step(state string, a ask, out outcome) (legal bool, next string) {
	switch {
	case a.what == free:
		return state == a.owner, nobody
	case out == done:
		return state == nobody, a.owner
	}
	return state != nobody, state // refused
}

// certain leaves out what says nothing: a claim whose answer nobody got may have
// had the address for a while, or not, and so may who could not release it for
// sure; from then on it is no wonder if others are refused.
func certain(history []call) []call {
	first := forever
	for _, c := range history {
		if c.out == unclear {
			first = min(first, c.begin)
		}
	}
	return slices.DeleteFunc(slices.Clone(history), func(c call) bool {
		return c.what == take && (c.out == unclear || c.out == refused && c.end >= first)
	})
}

// checkTime bounds the check of one address.
const checkTime = time.Minute

// check returns the addresses whose history has no order, or none that was found
// in time.
func (l *ledger) check() (bad []string, calls int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, history := range l.history {
		calls += len(history)
		ops := make([]porcupine.Operation, 0, len(history))
		for i, c := range certain(history) {
			ops = append(ops, porcupine.Operation{ClientId: i, Input: c.ask, Output: c.out, Call: int64(c.begin), Return: int64(c.end)})
		}
		if r := porcupine.CheckOperationsTimeout(register, ops, checkTime); r != porcupine.Ok {
			bad = append(bad, fmt.Sprintf("%s: %s: %s", a, r, describe(history)))
		}
	}
	slices.Sort(bad)
	return bad, calls
}

func describe(history []call) string {
	slices.SortFunc(history, func(a, b call) int { return int(a.begin - b.begin) })
	text := ""
	for _, c := range history {
		end := "…"
		if c.out != unclear {
			end = fmt.Sprintf("%.4f", c.end.Seconds())
		}
		text += fmt.Sprintf("\n  %.4f to %s s: %s %s: %s", c.begin.Seconds(), end, c.owner,
			map[deed]string{take: "takes", free: "frees"}[c.what], map[outcome]string{done: "done", refused: "refused", unclear: "not known"}[c.out])
	}
	return text
}

// count is how many addresses were given.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.allocations
}
