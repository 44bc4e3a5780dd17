package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness/program"
)

// box is a container. It is changed by one worker, under its engine's gate.
type box struct {
	name   string
	e      *engine
	number int
	starts int
	// The rest is of the start that it runs by.
	running  bool
	owner    string // as the ledger knows it
	endpoint string
	addr     netip.Addr
	link     string
	inside   bool // its link is in the sandbox
	// doubt says that its endpoint may be left over at the plugin, which then
	// keeps the address for a while.
	doubt   bool
	planted bool // see plantDuplicate: it runs on
}

// live starts and stops the container until ctx ends.
func (b *box) live(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(b.e.w.seed, uint64(b.number)+hash(b.name)))
	for program.Pause(ctx, time.Duration(rnd.IntN(800))*time.Millisecond) { // it works
		b.e.gate.RLock()
		call := context.WithoutCancel(ctx) // none is left half done
		switch {
		case b.planted:
		case b.running:
			b.down(call)
		default:
			if err := b.up(call, b.wants(rnd)); err != nil {
				b.e.w.failed(err)
			}
		}
		b.e.gate.RUnlock()
	}
}

// wants is the address that the container is started with (--ip): one of few
// that others want too, on all hosts, or none.
func (b *box) wants(rnd *rand.Rand) netip.Addr {
	if b.number%5 != 0 {
		return netip.Addr{}
	}
	return b.e.w.contended(b.e, rnd.IntN(contendedOnes))
}

// up starts it, as the engine does.
func (b *box) up(ctx context.Context, want netip.Addr) error {
	b.starts++
	b.owner = fmt.Sprintf("%s#%d", b.name, b.starts)
	b.endpoint = fmt.Sprintf("%016x%048d", hash(b.name), b.starts)
	b.doubt = false
	var err error
	if b.addr, err = b.request(ctx, want); err != nil {
		return err
	}
	ids := object{"NetworkID": b.e.network, "EndpointID": b.endpoint}
	_, err = b.e.call(ctx, "NetworkDriver.CreateEndpoint", object{
		"NetworkID": b.e.network, "EndpointID": b.endpoint, "Options": object{}, "Interface": object{"Address": netip.PrefixFrom(b.addr, subnet.Bits()).String()},
	}, nil)
	if err != nil {
		b.doubt = true
		b.release(ctx)
		return err
	}
	join := object{"NetworkID": b.e.network, "EndpointID": b.endpoint, "SandboxKey": "/x", "Options": object{}}
	var joined struct{ InterfaceName struct{ SrcName string } }
	if _, err = b.e.call(ctx, "NetworkDriver.Join", join, &joined); err != nil {
		b.delete(ctx, ids)
		return err
	}
	b.link = joined.InterfaceName.SrcName
	b.running = true
	return nil
}

// request asks for an address, and writes down what became of each try.
func (b *box) request(ctx context.Context, want netip.Addr) (netip.Addr, error) {
	l, options, address := b.e.w.ledger, object{}, ""
	if b.number%2 == 0 {
		options["com.docker.network.endpoint.name"] = b.name // since engine 29.0
	}
	if want.IsValid() {
		address = want.String()
	}
	var reply struct{ Address string }
	away := b.e.away()
	t, err := b.e.call(ctx, "IpamDriver.RequestAddress", object{"PoolID": b.e.pool, "Address": address, "Options": options}, &reply)
	if want.IsValid() {
		for _, begin := range t.cut {
			l.refused(want, b.owner, begin, unclear)
		}
	}
	b.e.w.answered(l.now()-t.begin, b.e.when(t.begin, away))
	if err == nil {
		p, err := netip.ParsePrefix(reply.Address)
		if err != nil || want.IsValid() && p.Addr() != want {
			return netip.Addr{}, fmt.Errorf("asked for %q and got %q (%w)", address, reply.Address, err)
		}
		l.taken(p.Addr(), b.owner, t.begin)
		return p.Addr(), nil
	}
	if want.IsValid() {
		out := unclear
		if refused := new(refusal); errors.As(err, &refused) && strings.Contains(refused.text, "already in use") {
			out = refused1(t)
		}
		l.refused(want, b.owner, t.begin, out)
	}
	return netip.Addr{}, err
}

// refused1 is the outcome of a call that was refused: by what a try of its own
// did that nobody answered, it may be.
func refused1(t tries) outcome {
	if len(t.cut) > 0 {
		return unclear
	}
	return refused
}

// down stops it. The engine logs what fails, and goes on.
func (b *box) down(ctx context.Context) {
	b.running = false
	ids := object{"NetworkID": b.e.network, "EndpointID": b.endpoint}
	if _, err := b.e.call(ctx, "NetworkDriver.Leave", ids, nil); err != nil {
		b.doubt = true
		b.e.w.failed(err)
	}
	if err := b.leave(); err != nil {
		b.e.w.failed(err)
	}
	b.delete(ctx, ids)
}

// enter puts the link of a container that is to stay into the sandbox. The kernel
// takes tens of milliseconds for that, and all others wait: those that come and go
// do without it.
func (b *box) enter() error {
	if !b.running || b.inside {
		return nil
	}
	err := b.e.box.enter(b.link)
	b.inside = err == nil
	return err
}

func (b *box) leave() error {
	if !b.inside {
		return nil
	}
	b.inside = false
	return b.e.box.leave(b.link)
}

func (b *box) delete(ctx context.Context, ids object) {
	if _, err := b.e.call(ctx, "NetworkDriver.DeleteEndpoint", ids, nil); err != nil {
		b.doubt = true
		b.e.w.failed(err)
	}
	b.release(ctx)
}

func (b *box) release(ctx context.Context) {
	w := b.e.w
	begin := w.ledger.releasing(b.addr, b.owner)
	calm := w.calm()
	t, err := b.e.call(ctx, "IpamDriver.ReleaseAddress", object{"PoolID": b.e.pool, "Address": b.addr.String()}, nil)
	out := done
	if err != nil || b.doubt || len(t.cut) > 0 || !calm || !w.calm() {
		// What cannot be said to the others now is said later.
		out = unclear
	}
	if err != nil {
		w.failed(err)
	}
	w.ledger.released(b.addr, b.owner, begin, out)
}

// replay is what an engine that starts asks for a container that it knows to run.
func (b *box) replay(ctx context.Context) error {
	if !b.running {
		return nil
	}
	var reply struct{ Address string }
	_, err := b.e.call(ctx, "IpamDriver.RequestAddress", object{"PoolID": b.e.pool, "Address": b.addr.String(), "Options": object{}}, &reply)
	got, _, _ := strings.Cut(reply.Address, "/")
	if err != nil {
		got = err.Error()
	}
	b.e.w.ledger.replayed(b.addr, b.owner, got)
	return nil
}
