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

// ask and answer are porcupine's input and output.
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
		return math.MaxInt64
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

// The states of an address beside its owner's name. One in limbo may be had by
// a call whose answer nobody got, or by nobody.
const (
	nobody = ""
	limbo  = "?"
)

// register is an address: whoever takes it has it until he frees it.
var register = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{nobody} },
	Step: func(state, input, output any) []any {
		return step(state.(string), input.(ask), output.(outcome)) //nolint:forcetypeassert // our own
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v: %v", input, output)
	},
}).ToModel()

// step returns the states that follow a call with that outcome; none, where it
// cannot have had that outcome.
func step(state string, a ask, out outcome) []any {
	mine, open := state == a.owner, state == nobody || state == limbo
	switch {
	case a.what == take && out == done && open:
		return []any{a.owner}
	case a.what == take && out == refused && state != nobody:
		return []any{state}
	case a.what == take && out == unclear && state == nobody:
		return []any{nobody, limbo}
	case a.what == take && out == unclear:
		return []any{state}
	case a.what == free && out == done && mine:
		return []any{nobody}
	case a.what == free && out == unclear && mine:
		return []any{nobody, limbo}
	}
	return nil
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
		for i, c := range history {
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
