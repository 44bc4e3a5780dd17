package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/etcd"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
	"github.com/dockline/dockline/test/harness/wire"
)

// Addresses for benchmarks (RFC 2544): containers share the range, which is not
// much larger than they need, so that what is given twice shows soon; the ones
// that are named are outside of it.
var (
	subnet     = netip.MustParsePrefix("198.18.0.0/22")
	chosen     = netip.MustParsePrefix("198.18.0.0/23")
	named      = netip.MustParseAddr("198.18.3.0")
	gateway    = netip.MustParseAddr("198.18.3.254")
	gatewayNet = "198.18.3.254/22"
)

const (
	contendedOnes = 20
	backboneNIC   = "eth1"
	// settleTime is in which what nobody has is found to be left over: an address
	// after a minute without an endpoint, an endpoint after two without a link.
	settleTime = 5 * time.Minute
)

// world is everything that the program began and has to take away.
type world struct {
	config
	lab     *lab.Lab
	etcd    *etcd.Cluster    // nil: the backend is another one
	client  *clientv3.Client // asks it from beside
	engines []*engine
	plugin  string
	ledger  *ledger
	faults  atomic.Int64
	broken  atomic.Int64 // faults of the cluster that are there now, or were a moment ago

	mu      sync.Mutex                 // guards all below
	answers map[string][]time.Duration // by when
	fails   map[string]int             // by the first words
	left    []string
	lost    []string
	strange []string
	stuck   error
}

func newWorld(ctx context.Context, c config) (*world, error) {
	l, err := lab.Open(lab.Base())
	if err != nil {
		return nil, err
	}
	w := &world{config: c, lab: l, ledger: newLedger(), fails: map[string]int{}, answers: map[string][]time.Duration{}}
	if err := w.machines(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// machines makes the hosts, the wire of their containers, and another one on
// which etcd is.
func (w *world) machines(ctx context.Context) error {
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	w.plugin = filepath.Join(top, binary)
	if _, err := os.Stat(w.plugin); err != nil {
		return fmt.Errorf("find the plugin (make plugins): %w", err)
	}
	lan, err := wire.New(ctx, w.lab, "lan")
	if err != nil {
		return err
	}
	backbone, err := wire.New(ctx, w.lab, "backbone")
	if err != nil {
		return err
	}
	for i := range w.hosts {
		s, err := wire.NewStation(ctx, w.lab, fmt.Sprintf("h%d", i))
		if err != nil {
			return err
		}
		if err := errors.Join(s.Plug(ctx, lan, "eth0"), s.Plug(ctx, backbone, backboneNIC, fmt.Sprintf("203.0.113.%d/24", 1+i))); err != nil {
			return err
		}
		run, err := w.lab.Outside()
		if err != nil {
			return err
		}
		e := newEngine(w, s, run)
		w.engines = append(w.engines, e)
		if e.box, err = newSandbox(ctx, w, s); err != nil {
			return err
		}
	}
	if w.backend != "etcd" {
		return nil
	}
	var addresses []string
	for i := range w.members {
		addresses = append(addresses, fmt.Sprintf("203.0.113.%d/24", 100+i))
	}
	if w.etcd, err = etcd.New(ctx, w.lab, backbone, addresses...); err != nil {
		return err
	}
	asker, err := backbone.Foreign(ctx, "asker", "203.0.113.200/24")
	if err != nil {
		return err
	}
	w.client, err = w.etcd.Client(asker)
	return err
}

// rangeOf is what a host's containers get their addresses from: the same for all,
// unless nobody keeps the hosts apart.
func (w *world) rangeOf(e *engine) netip.Prefix {
	if w.backend != "embedded" {
		return chosen
	}
	a := chosen.Addr().As4()
	i := slices.Index(w.engines, e)
	a[2], a[3] = a[2]+byte(i/2), byte(i%2*128)
	return netip.PrefixFrom(netip.AddrFrom4(a), 25)
}

// contended is one of the addresses that containers of all hosts want, or, where
// nobody keeps the hosts apart, of the same.
func (w *world) contended(e *engine, i int) netip.Addr {
	a := named.As4()
	if w.backend != "etcd" {
		i += contendedOnes * slices.Index(w.engines, e)
	}
	a[3] = byte(1 + i)
	return netip.AddrFrom4(a)
}

func (w *world) start(ctx context.Context) error {
	program.Say("seed %d: %d hosts with %d containers each, backend %s", w.seed, w.hosts, w.containers, w.backend)
	return w.eachEngine(func(e *engine) error {
		return errors.Join(e.startPlugin(ctx), e.createNetwork(ctx))
	})
}

func (w *world) eachEngine(do func(*engine) error) error {
	var g errgroup.Group
	for _, e := range w.engines {
		g.Go(func() error { return do(e) })
	}
	return g.Wait()
}

// churn has all containers start and stop while things break.
func (w *world) churn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.time)
	defer cancel()
	var workers sync.WaitGroup
	for _, e := range w.engines {
		for _, b := range e.boxes {
			workers.Go(func() { b.live(ctx) })
		}
	}
	var breakers errgroup.Group
	breakers.Go(func() error { return w.breakThings(ctx, hostFaults, 1) })
	if w.etcd != nil {
		breakers.Go(func() error { return w.breakThings(ctx, clusterFaults, 2) })
	}
	if w.plant {
		breakers.Go(func() error { return w.plantDuplicate(ctx) })
	}
	err := breakers.Wait()
	cancel()
	workers.Wait()
	w.sayAnswers()
	return err
}

// plantDuplicate is the mutation that has to be found: a container runs on with
// an address that was released.
func (w *world) plantDuplicate(ctx context.Context) error {
	for program.Pause(ctx, 100*time.Millisecond) { // until one of those with a name of its own runs
		e := w.engines[0]
		e.gate.Lock()
		for _, b := range e.boxes {
			if b.running && b.number%5 == 0 {
				ids := object{"NetworkID": e.network, "EndpointID": b.endpoint}
				_, err1 := e.call(ctx, "NetworkDriver.Leave", ids, nil)
				_, err2 := e.call(ctx, "NetworkDriver.DeleteEndpoint", ids, nil)
				_, err3 := e.call(ctx, "IpamDriver.ReleaseAddress", object{"PoolID": e.pool, "Address": b.addr.String()}, nil)
				b.planted = true
				e.gate.Unlock()
				program.Say("planted: %s of %s is released behind its back", b.addr, b.owner)
				return errors.Join(err1, err2, err3)
			}
		}
		e.gate.Unlock()
	}
	return nil
}

// quiesce waits until what is claimed is what running containers have.
func (w *world) quiesce(ctx context.Context) error {
	if err := w.eachEngine(func(e *engine) (err error) {
		for _, b := range e.boxes {
			err = errors.Join(err, b.enter())
		}
		return err
	}); err != nil {
		return err
	}
	program.Say("%d allocations, %d faults; waiting until what is claimed is what containers have", w.ledger.count(), w.faults.Load())
	return w.settled(ctx, "running")
}

func (w *world) settled(ctx context.Context, when string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("it takes too long"))
	defer cancel()
	begin := time.Now()
	var left, lost []string
	told := time.Now()
	err := proc.Await(ctx, func(ctx context.Context) error {
		claims, err := w.claims(ctx)
		if time.Since(told) > 15*time.Second {
			told = time.Now()
			program.Say("not yet: %d left over, %d not claimed (%v)", len(left), len(lost), err)
		}
		if errors.Is(err, errStuck) {
			w.stuck = err
			return nil
		}
		if err != nil {
			return err
		}
		held := w.ledger.held()
		left, lost = nil, nil
		for a, who := range claims {
			if held[a] == "" {
				left = append(left, fmt.Sprintf("%s, claimed by %s", a, who))
			}
		}
		for a, owner := range held {
			if claims[a] == "" {
				lost = append(lost, fmt.Sprintf("%s of %s", a, owner))
			}
		}
		if len(left)+len(lost) == 0 {
			return nil
		}
		for _, e := range w.engines {
			e.sweep()
		}
		program.Pause(ctx, 2*time.Second) // a reconcile
		return fmt.Errorf("%d are left over, %d not claimed", len(left), len(lost))
	})
	program.Say("looked at %s containers' addresses for %.1f s", when, time.Since(begin).Seconds())
	if err == nil {
		return w.stuck
	}
	if len(left)+len(lost) == 0 {
		return err
	}
	w.left, w.lost = append(w.left, left...), append(w.lost, lost...)
	for _, a := range left {
		program.Say("LEAKED: %s", a)
	}
	for _, a := range lost {
		program.Say("NOT CLAIMED: %s", a)
	}
	return nil
}

// claims are the addresses that somebody has by what the hosts, and etcd, say.
func (w *world) claims(ctx context.Context) (map[netip.Addr]string, error) {
	all := map[netip.Addr]string{}
	for _, e := range w.engines {
		raw, err := e.status(ctx)
		if err != nil {
			return nil, err
		}
		var status struct {
			Networks []struct {
				Pools []struct{ Given []netip.Addr }
			}
		}
		if err := json.Unmarshal(raw, &status); err != nil {
			return nil, fmt.Errorf("read the status of %s: %w", e.Name, err)
		}
		for _, n := range status.Networks {
			for _, p := range n.Pools {
				for _, a := range p.Given {
					all[a] = strings.TrimSpace(all[a] + " " + e.Name)
				}
			}
		}
	}
	delete(all, gateway)
	if w.etcd == nil {
		return all, nil
	}
	there, err := w.claimsInEtcd(ctx)
	if err != nil {
		return nil, err
	}
	for a, who := range all {
		if there[a] != who {
			return nil, fmt.Errorf("%s says that it has %s, and etcd that %q does", who, a, there[a])
		}
	}
	return there, nil
}

// restartEngines has every engine say what it knows.
func (w *world) restartEngines(ctx context.Context) error {
	return w.eachEngine(func(e *engine) error { return e.restart(ctx) })
}

// judge checks the histories, stops all containers and removes all networks.
func (w *world) judge(ctx context.Context) error {
	begin := time.Now()
	bad, calls := w.ledger.check()
	program.Say("checked the order of %d calls in %.1f s", calls, time.Since(begin).Seconds())
	for _, b := range bad {
		program.Say("NO ORDER: %s", b)
	}
	w.strange = bad
	err := w.eachEngine(func(e *engine) error {
		for _, b := range e.boxes {
			if b.running {
				b.down(ctx)
			}
		}
		return nil
	})
	if err = errors.Join(err, w.settled(ctx, "stopped")); err != nil {
		return err
	}
	return w.eachEngine(func(e *engine) error { return e.removeNetwork(ctx) })
}

func (w *world) result() *result {
	l := w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	return &result{
		allocations: l.allocations, duplicates: len(l.duplicates), leaked: len(w.left), changed: len(l.changed),
		unordered: len(w.strange), unclaimed: len(w.lost),
	}
}

// trouble says that something of the cluster is broken, until it is not.
func (w *world) trouble() (over func()) {
	w.broken.Add(1)
	return func() { w.broken.Add(-1) }
}

func (w *world) calm() bool { return w.broken.Load() == 0 }

// answered notes how long the plugin took for an answer, whatever it was.
func (w *world) answered(d time.Duration, when string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[when] = append(w.answers[when], d)
}

// failed counts errors by what they say, without the addresses.
func (w *world) failed(err error) {
	text := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fails[text[:min(len(text), 150)]]++
}

func (w *world) sayAnswers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for when, all := range w.answers {
		slices.Sort(all)
		n := len(all)
		program.Say("an address, or that there is none, took %.1f ms (median), %.1f (99th percentile), %.1f at most%s",
			ms(all[n/2]), ms(all[n*99/100]), ms(all[n-1]), when)
	}
	for _, text := range slices.SortedFunc(maps.Keys(w.fails), func(a, b string) int { return w.fails[b] - w.fails[a] }) {
		program.Say("%6d × %s", w.fails[text], text)
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

// close takes everything away. It may find the world half made.
func (w *world) close() error {
	var errs []error
	for _, e := range w.engines {
		e.http.CloseIdleConnections()
		errs = append(errs, e.killPlugin(), e.Close())
		if e.box != nil {
			errs = append(errs, e.box.close())
		}
	}
	if w.client != nil {
		errs = append(errs, w.client.Close())
	}
	if w.etcd != nil {
		errs = append(errs, w.etcd.Close())
	}
	return errors.Join(append(errs, w.lab.Close())...)
}
