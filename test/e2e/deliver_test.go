package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/route"
	"github.com/dockline/dockline/test/harness/rsyslog"
)

func TestPluginHasNoCapabilities(t *testing.T) {
	ctx := testContext(t)
	p, err := shared.engine.Plugin(ctx, driver)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if want := set + ":\t0000000000000000\n"; !strings.Contains(string(status), want) {
			t.Errorf("the plugin has capabilities: want %q in\n%s", want, status)
		}
	}
}

// Every kind of output goes to one collector a container, the one that routing
// ranks first, complete, in order and byte for byte.
func TestEveryRecordReachesItsCollector(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	var nodes []route.Node
	for i, proto := range []string{"json+tcp", "syslog+tcp", "relp"} {
		name := fmt.Sprintf("c%d", i)
		b.collector(name, proto)
		nodes = append(nodes, route.Node{Name: name, Weight: 1})
	}
	table, err := route.New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	workloads := map[string][]string{
		"seq":    {"workload", "seq", "-n", "20000", "-stderr-every", "7"},
		"trace":  {"workload", "trace", "-n", "50"},
		"json":   {"workload", "json", "-n", "2000"},
		"web":    {"workload", "web", "-requests", "500"},
		"burst":  {"workload", "burst", "-pause", "100ms"},
		"shell":  {"sh", "-c", "for i in $(seq 300); do echo line $i; echo error $i >&2; done"},
		"empty":  {"true"},
		"notail": {"workload", "notail"},
	}
	names := slices.Sorted(maps.Keys(workloads))
	pushedBack, _ := b.metric("pushbacks_total")
	for _, name := range names {
		b.start("deliver-"+name, []string{"--log-opt", "hash=name"}, workloads[name]...)
	}
	for _, name := range names {
		b.finish("deliver-" + name)
	}
	rep := b.settle()
	if rep.Duplicated > 0 {
		t.Errorf("%d records came twice though nothing failed", rep.Duplicated)
	}
	// A collector that lags behind, as these may on a machine that has much else to
	// do, sheds some of what it gets.
	now, _ := b.metric("pushbacks_total")
	for _, name := range names {
		where, first := b.check.Where("deliver-"+name), table.First("deliver-"+name)
		if len(where) > 0 && where[first] == 0 || len(where) > 1 && now == pushedBack {
			t.Errorf("%s went to %v, its first rank is %s, and collectors pushed back %v times", name, where, first, now-pushedBack)
		}
	}
}

// What is not text, and what the engine cuts into chunks, arrives as it was
// written, over each protocol.
func TestBytesAreExact(t *testing.T) {
	for _, proto := range []string{"json+tcp", "syslog+tcp", "relp"} {
		t.Run(proto, func(t *testing.T) {
			b := newBench(t, testContext(t), shared.engine)
			b.collector("c1", proto)
			prefix := "exact-" + strings.TrimSuffix(proto, "+tcp") + "-"
			workloads := map[string][]string{
				"binary": {"workload", "binary"},
				"long":   {"workload", "long", "-n", "6"},
				"notail": {"workload", "notail", "-size", "40000"},
				"16KiB":  {"sh", "-c", "for n in 16383 16384 16385 32768; do head -c $n /dev/zero | tr '\\0' x; echo; done"},
				"blank":  {"sh", "-c", "echo; echo; echo ' '; printf '\\r\\n'; echo end"},
			}
			for name, workload := range workloads {
				b.start(prefix+name, nil, workload...)
			}
			for name := range workloads {
				b.finish(prefix + name)
			}
			b.settle()
		})
	}
}

// Real rsyslog takes what we send, by TCP and by RELP.
func TestRsyslogReceives(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	s, err := rsyslog.New(shared.lab, "rsyslog", b.check.Record)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(b.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, url := range s.URLs() {
		b.urls = []string{url}
		name := fmt.Sprintf("rsyslog-%d", i)
		b.start(name, nil, "workload", "seq", "-n", "5000", "-stderr-every", "10")
		b.finish(name)
	}
	rep := b.settle()
	for _, name := range []string{"rsyslog-tcp", "rsyslog-relp"} {
		if rep.Collectors[name] != 5500 {
			t.Errorf("%s received %d records, not 5500", name, rep.Collectors[name])
		}
	}
}
