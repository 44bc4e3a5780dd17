package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dockline/dockline/test/harness/etcd"
	"github.com/dockline/dockline/test/harness/program"
)

// fault is something that breaks for a while. It returns when all is well again.
type fault struct {
	name string
	do   func(*world, context.Context, *rand.Rand) error
}

// Those of the cluster come one after the other, so that there is a majority
// except where there is to be none.
var (
	clusterFaults = []fault{
		{"a member of etcd is killed", (*world).killMember},
		{"a member of etcd is cut off", (*world).cutMember},
		{"etcd forgets its history", (*world).compact},
		{"all of etcd is away", (*world).killCluster},
		{"a host is cut off from etcd, which forgets its history", (*world).cutHost},
	}
	hostFaults = []fault{
		{"a plugin is killed", (*world).killPlugin},
		{"a plugin is killed", (*world).killPlugin},
		{"an engine starts again", (*world).restartEngine},
	}
)

// break breaks things of one kind until ctx ends, each as often as the others.
func (w *world) breakThings(ctx context.Context, faults []fault, seed uint64) error {
	rnd := rand.New(rand.NewPCG(w.seed, seed))
	for {
		for _, i := range rnd.Perm(len(faults)) {
			if !program.Pause(ctx, w.every) {
				return nil
			}
			program.Say("%s; %d allocations so far", faults[i].name, w.ledger.count())
			if err := faults[i].do(w, context.WithoutCancel(ctx), rnd); err != nil {
				return fmt.Errorf("%s: %w", faults[i].name, err)
			}
			w.faults.Add(1)
		}
	}
}

// hold is how long things stay broken.
func hold(ctx context.Context, rnd *rand.Rand) {
	program.Pause(ctx, time.Second+time.Duration(rnd.IntN(4000))*time.Millisecond)
}

// member is any member, the one that leads every other time.
func (w *world) member(ctx context.Context, rnd *rand.Rand) *etcd.Member {
	if rnd.IntN(2) == 0 {
		if m, err := w.etcd.Leader(ctx); err == nil {
			return m
		}
	}
	return w.etcd.Members[rnd.IntN(len(w.etcd.Members))]
}

func (w *world) killMember(ctx context.Context, rnd *rand.Rand) error {
	defer w.trouble()()
	m := w.member(ctx, rnd)
	if err := m.Kill(); err != nil {
		return err
	}
	hold(ctx, rnd)
	return w.mended(ctx, m.Start(ctx))
}

func (w *world) cutMember(ctx context.Context, rnd *rand.Rand) error {
	defer w.trouble()()
	m := w.member(ctx, rnd)
	if err := m.Isolate(ctx); err != nil {
		return err
	}
	hold(ctx, rnd)
	return w.mended(ctx, m.Rejoin(ctx))
}

func (w *world) killCluster(ctx context.Context, rnd *rand.Rand) error {
	defer w.trouble()()
	for _, m := range w.etcd.Members {
		if err := m.Kill(); err != nil {
			return err
		}
	}
	for _, e := range w.engines {
		defer e.without()()
	}
	hold(ctx, rnd)
	for _, m := range w.etcd.Members {
		if err := m.Start(ctx); err != nil {
			return err
		}
	}
	return w.mended(ctx, nil)
}

func (w *world) cutHost(ctx context.Context, rnd *rand.Rand) error {
	defer w.trouble()()
	e := w.engines[rnd.IntN(len(w.engines))]
	if err := e.Cut(ctx, backboneNIC); err != nil {
		return err
	}
	defer e.without()()
	hold(ctx, rnd)
	return w.mended(ctx, errors.Join(w.compact(ctx, rnd), e.Mend(ctx, backboneNIC)))
}

// mended waits until the cluster answers again.
func (w *world) mended(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upTime, errors.New("etcd does not come back"))
	defer cancel()
	return w.etcd.Await(ctx)
}

// compact has the cluster forget all but what there is now.
func (w *world) compact(ctx context.Context, _ *rand.Rand) error {
	ctx, cancel := context.WithTimeoutCause(ctx, upTime, errors.New("etcd does not answer"))
	defer cancel()
	at, err := w.client.Get(ctx, "now")
	if err != nil {
		return fmt.Errorf("ask etcd for its revision: %w", err)
	}
	if _, err := w.client.Compact(ctx, at.Header.Revision); err != nil {
		return fmt.Errorf("compact etcd: %w", err)
	}
	return nil
}

func (w *world) killPlugin(ctx context.Context, rnd *rand.Rand) error {
	e := w.engines[rnd.IntN(len(w.engines))]
	return errors.Join(e.killPlugin(), e.startPlugin(ctx))
}

func (w *world) restartEngine(ctx context.Context, rnd *rand.Rand) error {
	return w.engines[rnd.IntN(len(w.engines))].restart(ctx)
}
