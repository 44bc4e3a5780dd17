// Command chaosipam gives addresses to hundreds of containers on several hosts
// at once, breaks what they depend on meanwhile, and looks at whether an address
// had two owners, was lost, or changed.
//
// A host is a network namespace in which the real plugin runs, with a state
// directory of its own. It is spoken to through its socket with the calls that
// an engine makes, in their order: an engine is too slow for so many. The faults
// are those of machines: members of the etcd cluster are killed and cut off, the
// whole of it is away for some seconds, its history is compacted, the plugin is
// killed, and an engine starts again and says what it knows (replays).
//
// Every claim and every release is written down by who asked for it, and
// the history of each address is checked for linearizability: there has to be an
// order of the calls, each somewhere between its begin and its end, in which an
// address is only given while nobody has it.
//
// The last line says how it went; the exit code is 1 if anything is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dockline/dockline/test/harness/program"
)

type config struct {
	backend    string
	hosts      int
	containers int // of each host
	members    int // of the etcd cluster
	time       time.Duration
	every      time.Duration // from one fault to the next
	seed       uint64
	plant      bool
}

func main() {
	c := config{}
	flag.StringVar(&c.backend, "backend", "etcd", "where addresses come from: etcd, split, or embedded (each host with a range of its own)")
	flag.IntVar(&c.hosts, "hosts", 3, "how many hosts")
	flag.IntVar(&c.containers, "containers", 100, "how many containers start and stop at once on each")
	flag.IntVar(&c.members, "members", 3, "how many members the etcd cluster has")
	seconds := flag.Int("seconds", 90, "how long containers start and stop")
	flag.DurationVar(&c.every, "every", 2*time.Second, "from one fault to the next")
	program.Seed(&c.seed)
	flag.BoolVar(&c.plant, "plant", false, "release the address of a running container behind its back, which has to be found")
	flag.Parse()
	c.time = time.Duration(*seconds) * time.Second
	limit := 10*time.Minute + 2*c.time
	program.Main("chaosipam", limit, func(ctx context.Context) (program.Result, error) { return run(ctx, c) })
}

// result is what the last line says.
type result struct {
	allocations, duplicates, leaked, changed int
	unordered, unclaimed                     int // said before, in words
}

// Bad implements program.Result.
func (r *result) Bad() bool {
	return r.duplicates+r.leaked+r.changed+r.unordered+r.unclaimed > 0 || r.allocations == 0
}

func (r *result) String() string {
	return fmt.Sprintf("allocations=%d duplicates=%d leaked=%d changed=%d", r.allocations, r.duplicates, r.leaked, r.changed)
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (r program.Result, err error) {
	w, err := newWorld(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil || r == nil || r.Bad() {
			w.keepLogs()
		}
		program.Say("taking everything away again")
		err = errors.Join(err, w.close())
	}()
	recording, stop := context.WithCancel(ctx)
	var recorder errgroup.Group
	if w.etcd != nil {
		recorder.Go(func() error { return w.recordEtcd(recording) })
	}
	err = program.Parts(ctx, w.start, w.churn, w.quiesce, w.restartEngines, w.judge)
	stop()
	if err = errors.Join(err, recorder.Wait()); err != nil {
		return nil, err
	}
	return w.result(), nil
}

// keepLogs keeps what the plugins and the cluster said, for whoever looks for
// the cause.
func (w *world) keepLogs() {
	to := filepath.Join(os.TempDir(), fmt.Sprintf("chaosipam-%d", w.seed))
	logs, _ := filepath.Glob(filepath.Join(w.lab.Dir, "*.log"))
	err := os.MkdirAll(to, 0o700)
	for _, path := range logs {
		raw, err1 := os.ReadFile(path)
		err = errors.Join(err, err1, os.WriteFile(filepath.Join(to, filepath.Base(path)), raw, 0o600))
	}
	if err != nil {
		program.Say("logs are lost: %v", err)
		return
	}
	program.Say("the logs are kept in %s", to)
}
