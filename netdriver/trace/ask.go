package trace

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/neighbour"
)

const (
	questions     = 3
	questionEvery = 150 * time.Millisecond
	mostClaims    = 1024                   // that wait to be looked at
	answerWithin  = 600 * time.Millisecond // after the last question

	// againRounds is how often it is asked again where each question was answered
	// twice: somebody else may have asked by the same link at the same time, as the
	// container itself does. againAfter is for how long that one is waited for,
	// with as much again at random.
	againRounds = 2
	againAfter  = time.Second

	turnEvery  = 20 * time.Millisecond
	turnWithin = 20 * time.Second // what two others take at most, and what is left is enough
)

// turn waits until no other trace asks from the same namespace: the answers to
// both would be heard by both. It does not wait for long: whoever is in a namespace
// can hold its lock.
func (s *space) turn(ctx context.Context) error {
	for begun := time.Now(); time.Since(begun) < turnWithin; {
		ours, err := s.k.TryLock()
		if err != nil || ours {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(turnEvery):
		}
	}
	return nil
}

// askFor asks by a link of A who has an address, and hears for a while.
func (s *space) askFor(ctx context.Context, link kernel.LinkState, what string, addr netip.Addr) Asked {
	a := Asked{Addr: addr, What: what, Answers: []Answer{}}
	var port *neighbour.Port
	err := s.k.Within(func() (err error) {
		port, err = neighbour.Open(link.Interface())
		return err
	})
	if err != nil {
		a.Fault = err.Error()
		return a
	}
	claims := make(chan neighbour.Claim, mostClaims)
	go func() {
		defer close(claims)
		for {
			c, err := port.Receive()
			if err != nil {
				return // it is closed, or the link has gone down: the hops say so
			}
			select {
			case claims <- c:
			default: // a storm, which is not counted
			}
		}
	}()
	a.round(ctx, port, claims)
	for range againRounds {
		if !a.twice() {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(againAfter + rand.N(againAfter)):
		}
		a.Sent, a.Answers = 0, []Answer{}
		for len(claims) > 0 { // of the pause
			<-claims
		}
		a.round(ctx, port, claims)
	}
	_ = port.Close()
	for range claims { // what was on its way when the port was closed
		continue
	}
	return a
}

// twice reports whether one machine, or two with one MAC, answered each question twice.
func (a *Asked) twice() bool {
	return len(a.Answers) == 1 && a.Sent > 0 && a.Answers[0].Count >= 2*a.Sent
}

// round asks a few times, and hears for a while.
func (a *Asked) round(ctx context.Context, port *neighbour.Port, claims <-chan neighbour.Claim) {
	stop := time.NewTimer((questions-1)*questionEvery + answerWithin)
	defer stop.Stop()
	next := time.NewTicker(questionEvery)
	defer next.Stop()
	a.ask(port)
	for {
		select {
		case <-ctx.Done():
			return
		case <-stop.C:
			return
		case <-next.C:
			if a.Sent < questions {
				a.ask(port)
			}
		case c, ok := <-claims:
			switch {
			case !ok:
				return
			case c.Addr == a.Addr:
				a.hear(c)
			}
		}
	}
}

func (a *Asked) ask(port *neighbour.Port) {
	if err := port.Ask(a.Addr, nil); err != nil {
		a.Fault = err.Error()
	}
	a.Sent++
}

// hear takes note of whoever claims the address, and counts who answers: others'
// traffic claims addresses, too.
func (a *Asked) hear(c neighbour.Claim) {
	i := slices.IndexFunc(a.Answers, func(one Answer) bool { return one.MAC == c.MAC.String() })
	if i < 0 {
		i = len(a.Answers)
		a.Answers = append(a.Answers, Answer{MAC: c.MAC.String()})
	}
	if c.Answer {
		a.Answers[i].Count++
	}
}
