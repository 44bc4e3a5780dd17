package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/proc"
)

// With collectors that are dead in every way there is, containers start, log,
// stop and are removed as with the engine's own driver, and as fast.
func TestDeadCollectorsBlockNobody(t *testing.T) {
	t.Parallel()
	lab := hosts.Open(t)
	lan := lab.Wire(t, "lan")
	h := lab.Host(t, "a", debian.Trixie, hosts.On(lan, "192.0.2.1/24"))
	h.Install(driver, build(t, driver))
	h.Run("iptables", "-A", "OUTPUT", "-p", "tcp", "-d", "127.0.2.2", "-j", "DROP")
	h.Run("iptables", "-A", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "DROP")
	var mute net.Listener
	h.Do(func() (err error) {
		mute, err = net.Listen("tcp", "127.0.2.3:0") // takes connections, as the kernel does, and never reads
		return err
	})
	t.Cleanup(func() { _ = mute.Close() })
	dead := map[string]string{
		"refusing":   "relp://127.0.2.1:2514",
		"swallowing": "relp://127.0.2.2:2514",
		"mute":       "syslog+tcp://" + mute.Addr().String(),
		"all": "relp://127.0.2.1:2514,relp://127.0.2.2:2514,relp://" + mute.Addr().String() +
			",relp://192.0.2.77:2514,relp://203.0.113.1:2514,relp://logs.test:2514", // nobody there, no route, no name server
	}

	drivers := map[string][]string{jsonFile: {"--log-driver", jsonFile}}
	for name, list := range dead {
		drivers[name] = []string{"--log-driver", driver, "--log-opt", "collectors=" + list}
	}
	all := map[string]*lives{}
	for round := range 3 { // all of them in each, so that none has the machine to itself
		for name, opts := range drivers {
			if all[name] == nil {
				all[name] = &lives{}
			}
			all[name].another(t, h, fmt.Sprintf("%s-%d", name, round), opts)
		}
	}
	want := all[jsonFile].middle()
	for name, l := range all {
		got := l.middle()
		t.Logf("%-14s start %v stop %v rm %v", name, got.start, got.stop, got.remove)
		// Many times as long, because the machine does other things too: a wait for
		// a collector would still be longer.
		if got.stop > 10*want.stop || got.total() > 10*want.total() {
			t.Errorf("%s: containers took %v, with json-file %v", name, got, want)
		}
	}
}

const jsonFile = "json-file" // the engine's own driver

// times are the middle ones of some containers' lives.
type times struct{ start, stop, remove time.Duration }

func (t times) total() time.Duration { return t.start + t.stop + t.remove }

// lives are how long some containers took.
type lives struct{ starts, stops, removes []time.Duration }

// another lets a container start, log more than a pipe holds, stop and be removed.
func (l *lives) another(t *testing.T, h *hosts.Host, name string, opts []string) {
	t.Helper()
	timed := func(into *[]time.Duration, args ...string) {
		began := time.Now()
		h.Docker(args...)
		*into = append(*into, time.Since(began))
	}
	script := "trap 'exit 0' TERM; workload seq -n 3000; echo written; while :; do sleep 0.02; done"
	timed(&l.starts, append(append([]string{"run", "-d", "--network", "none", "--name", name}, opts...), harness.Image, "sh", "-c", script)...)
	awaitWritten(t, h, name)
	timed(&l.stops, "stop", name)
	timed(&l.removes, "rm", name)
}

func (l *lives) middle() times {
	of := func(d []time.Duration) time.Duration { slices.Sort(d); return d[len(d)/2] }
	return times{of(l.starts), of(l.stops), of(l.removes)}
}

// awaitWritten waits until docker logs ends in the container's last line.
func awaitWritten(t *testing.T, h *hosts.Host, container string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), awaitTime, errors.New("the container does not get its lines written"))
	defer cancel()
	err := proc.Await(ctx, func(ctx context.Context) error {
		out, err := h.Engine.Run(ctx, "logs", "--tail", "1", container)
		if err == nil && out != "written" {
			err = fmt.Errorf("docker logs ends in %q", out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
