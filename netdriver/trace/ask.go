package trace

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/neighbour"
)

const (
	questions     = 3
	questionEvery = 150 * time.Millisecond
	answerWithin  = 600 * time.Millisecond // after the last question
)

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
	claims := make(chan neighbour.Claim)
	go func() {
		defer close(claims)
		for {
			c, err := port.Receive()
			if err != nil {
				return // it is closed, or the link has gone down: the hops say so
			}
			claims <- c
		}
	}()
	stop := time.NewTimer((questions-1)*questionEvery + answerWithin)
	defer stop.Stop()
	next := time.NewTicker(questionEvery)
	defer next.Stop()
	a.ask(port)
	for open := true; open; {
		select {
		case <-ctx.Done():
			open = false
		case <-stop.C:
			open = false
		case <-next.C:
			if a.Sent < questions {
				a.ask(port)
			}
		case c, ok := <-claims:
			if !ok {
				open = false
			} else if c.Addr == addr {
				a.hear(c)
			}
		}
	}
	_ = port.Close()
	for range claims { // what was on its way when the port was closed
		continue
	}
	return a
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
