package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dockline/dockline/test/harness/program"
)

// upset carries out the acts upon collectors until ctx ends. Each lets its
// collector come back before the next begins.
func (w *world) upset(ctx context.Context, events []event) error {
	for _, e := range events {
		if !program.Pause(ctx, e.wait) {
			return nil
		}
		s := w.servers[e.who%len(w.servers)]
		who := s.Name()
		if strings.HasPrefix(e.what, "rsyslog") {
			who = "rsyslog"
		} else if e.what == "blackout" {
			who = "all of ours"
		}
		program.Say("collectors: %s for %.1f s: %s", e.what, e.hold.Seconds(), who)
		if err := w.upsetOne(ctx, e, s); err != nil {
			return fmt.Errorf("%s of collector %s: %w", e.what, who, err)
		}
	}
	return nil
}

func (w *world) upsetOne(ctx context.Context, e event, s *server) error {
	switch e.what {
	case "crash":
		s.held += s.Held()
		return errors.Join(s.Reset(), w.away(ctx, e, s))
	case "hang-crash": // with what its kernel has taken and it has not read
		s.Pause()
		program.Pause(ctx, e.hold)
		s.held += s.Held()
		return errors.Join(s.Reset(), w.away(ctx, e, s))
	case "close":
		return errors.Join(s.Close(), w.away(ctx, e, s))
	case "pause":
		s.Pause()
		program.Pause(ctx, e.hold)
		s.Resume()
		return nil
	case "cut":
		return w.cut(ctx, e, s)
	case "blackout":
		return w.cut(ctx, e, w.servers...)
	}
	return w.upsetRsyslog(ctx, e)
}

// away brings a collector back at its address after a while.
func (w *world) away(ctx context.Context, e event, s *server) error {
	program.Pause(ctx, e.hold)
	return s.start(s.Name(), s.Addr(), w.book.Record)
}

// cut takes the network from collectors and gives it back.
func (w *world) cut(ctx context.Context, e event, servers ...*server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Isolate())
	}
	program.Pause(ctx, e.hold)
	for _, s := range servers {
		errs = append(errs, s.Rejoin())
	}
	return errors.Join(errs...)
}

func (w *world) upsetRsyslog(ctx context.Context, e event) error {
	end := w.rsyslog.Kill
	switch e.what {
	case "rsyslog-pause":
		err := w.rsyslog.Pause()
		program.Pause(ctx, e.hold)
		return errors.Join(err, w.rsyslog.Resume())
	case "rsyslog-stop":
		end = w.rsyslog.Stop
	}
	if err := end(); err != nil {
		return err
	}
	program.Pause(ctx, e.hold)
	return w.rsyslog.Start(context.WithoutCancel(ctx))
}
