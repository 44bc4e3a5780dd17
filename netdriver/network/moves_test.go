package network_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/dockline/dockline/netdriver/network"
)

func TestAMoveThatIsConfirmedStays(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	l.connected("at first")
	l.host.check(l.m.Create(l.definition))
	l.onBridge("after the move")
	if mv := l.move(); mv.State != network.Moved || mv.Confirmed || !mv.Until.After(time.Now()) {
		t.Errorf("it is %s, confirmed %v, until %s", mv.State, mv.Confirmed, mv.Until)
	}
	l.host.check(l.m.Confirm("net"))
	l.restart()
	l.host.check(l.recover())
	l.onBridge("after a restart of the plugin")
	l.host.check(l.m.Delete(l.definition.ID))
	l.asBefore("after the network was removed")
	if links, err := l.host.k.Links(); err != nil || len(links) != 2 {
		t.Errorf("there are %v, %v", links, err)
	}
}

// What was on its way when the process died is back, whatever the step.
func TestAMoveThatWasCutOffIsUndone(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	l.host.check(l.m.Create(l.definition))
	create := l.world.done
	l.host.check(l.m.Delete(l.definition.ID))
	remove := l.world.done - create
	l.asBefore("after a move that was not cut off")
	for n := range create {
		l.restart()
		l.world.steps = n
		if err := l.m.Create(l.definition); !errors.Is(err, errDead) {
			t.Fatalf("step %d of %d: %v", n, create, err)
		}
		l.restart()
		l.world.steps = n / 2 // and once more on the way back
		_ = l.recover()
		l.restart()
		l.host.check(l.recover())
		l.asBefore("cut off while it was made")
		if left := l.m.List(); len(left) > 0 {
			t.Fatalf("step %d of %d left %v", n, create, left)
		}
	}
	for n := range remove {
		l.restart()
		l.host.check(l.m.Create(l.definition))
		l.host.check(l.m.Confirm(l.definition.ID))
		l.world.done, l.world.steps = 0, n
		if err := l.m.Delete(l.definition.ID); !errors.Is(err, errDead) {
			t.Fatalf("step %d of %d: %v", n, remove, err)
		}
		l.restart()
		l.host.check(l.recover())
		l.host.check(l.m.Delete(l.definition.ID))
		l.asBefore("cut off while it was removed")
	}
	t.Logf("%d steps to make it, %d to remove it", create, remove)
}

func TestAMoveThatFailsIsUndone(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	for _, step := range []string{"bridge", "master", "add " + hostV4 + "/24", "add default", "remove " + hostV6 + "/64", "remove default"} {
		l.world.fails = step
		if err := l.m.Create(l.definition); !errors.Is(err, errFault) {
			t.Errorf("%s: %v", step, err)
		}
		l.asBefore(step)
		if left := l.m.List(); len(left) > 0 {
			t.Errorf("%s: left %v", step, left)
		}
	}
}

func TestAMoveThatNobodyConfirmsIsUndone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		within time.Duration
		end    func(l *lan, stop func(), done <-chan error)
		why    string
	}{
		"in time": {time.Millisecond, func(l *lan, stop func(), done <-chan error) {
			for l.move().State != network.Undone {
				time.Sleep(time.Millisecond) // there is no event for it
			}
			stop()
			l.host.check(<-done)
		}, "not confirmed within 1ms"},
		"before the plugin stops": {time.Hour, func(l *lan, stop func(), done <-chan error) {
			stop()
			l.host.check(<-done)
		}, "was stopped before"},
		"before the plugin dies": {time.Hour, func(l *lan, stop func(), done <-chan error) {
			l.world.done, l.world.steps = 0, 0 // the kernel and the disk see no more of it
			stop()
			<-done
			l.restart()
			_ = l.recover()
		}, "the plugin ended"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			m := l.m
			go func() { done <- m.WatchMoves(ctx) }()
			l.definition.ConfirmWithin = tc.within
			l.host.check(l.m.Create(l.definition))
			tc.end(l, stop, done)
			l.asBefore("after the move was undone")
			if err := l.m.Confirm(l.definition.ID); !errors.Is(err, network.ErrUndone) || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("confirmed too late: %v", err)
			}
			if err := l.m.Ensure(l.definition.ID); !errors.Is(err, network.ErrUndone) {
				t.Errorf("the network is without its wire: %v", err)
			}
			l.asBefore("after a reconcile")
			l.host.check(l.m.Delete(l.definition.ID))
			l.asBefore("after the network was removed")
		})
	}
}

func TestAReturnThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	l.host.check(l.m.Create(l.definition))
	l.world.fails = "add " + hostV4 + "/24"
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := l.m.WatchMoves(ctx); !errors.Is(err, errFault) || l.move().State != network.Returning {
		t.Errorf("%v, it is %s", err, l.move().State)
	}
	_ = l.m.Ensure(l.definition.ID)
	l.asBefore("after the next reconcile")
}

// After a reboot the host's own configuration has put everything on the NIC.
func TestAMoveAfterAReboot(t *testing.T) {
	t.Parallel()
	for _, confirmed := range []bool{true, false} {
		l := newLAN(t)
		l.host.check(l.m.Create(l.definition))
		if confirmed {
			l.host.check(l.m.Confirm(l.definition.ID))
		}
		l.kill()
		l.host.check(l.host.lib.LinkDel(l.host.link(l.definition.BridgeName)))
		l.host.check(l.host.k.SetDown("nic0"))
		l.host.check(l.host.k.SetUp("nic0")) // so that it has a link-local address
		l.boot = "2"
		l.start()
		if err := l.recover(); err == nil {
			t.Error("there is nothing to move yet")
		}
		l.configure()
		err := l.m.Ensure(l.definition.ID)
		if confirmed {
			l.host.check(err)
			l.onBridge("after the next reconcile")
			continue
		}
		if !errors.Is(err, network.ErrUndone) {
			t.Error(err)
		}
		l.asBefore("after a reboot")
	}
}

func TestABridgeThatWasDeletedComesBackWithTheAddresses(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	l.host.check(l.m.Create(l.definition))
	l.host.check(l.m.Confirm(l.definition.ID))
	l.host.check(l.host.lib.LinkDel(l.host.link(l.definition.BridgeName)))
	l.host.check(l.m.Ensure(l.definition.ID))
	l.onBridge("after a reconcile")
	// Somebody takes the uplink out, and the host's configuration comes over it.
	l.host.check(l.host.lib.LinkSetNoMaster(l.host.link("nic0")))
	l.host.addr("nic0", hostV4+"/24", 0)
	l.host.check(l.m.Ensure(l.definition.ID))
	l.onBridge("after another reconcile")
}

func TestWhatCannotBeMovedIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		make func(l *lan)
		says string
	}{
		"a lease": {func(l *lan) {
			a, _ := netlink.ParseAddr("192.0.2.55/24")
			a.ValidLft, a.PreferedLft = 600, 600
			l.host.check(l.host.lib.AddrAdd(l.host.link("nic0"), a))
		}, "DHCP"},
		"a route by several": {func(l *lan) {
			hop := func(via string) *netlink.NexthopInfo {
				return &netlink.NexthopInfo{LinkIndex: l.host.link("nic0").Attrs().Index, Gw: []byte{192, 0, 2, via[0]}}
			}
			l.host.check(l.host.lib.RouteAdd(&netlink.Route{Dst: cidr("10.7.0.0/16"), MultiPath: []*netlink.NexthopInfo{hop("\x01"), hop("\x08")}}))
		}, "several interfaces"},
		"a rule": {func(l *lan) {
			r := netlink.NewRule()
			r.IifName, r.Table, r.Priority = "nic0", 77, 1000
			l.host.check(l.host.lib.RuleAdd(r))
		}, "rule 1000"},
		"nothing": {func(l *lan) { l.definition.Parent = "bare0"; l.host.bare() }, "no address"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			tc.make(l)
			l.before = l.config("nic0")
			if err := l.m.Create(l.definition); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
			l.asBefore("after a refusal")
			if left := l.m.List(); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}
