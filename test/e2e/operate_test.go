package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/admin"
	logadmin "github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
)

// lookAgain is between two looks at what tells nobody that it has changed.
const lookAgain = 100 * time.Millisecond

// adminGet asks the socket that the manual names.
func adminGet(ctx context.Context, t *testing.T, e *harness.Engine, path string) string {
	t.Helper()
	id, err := e.Run(ctx, "plugin", "inspect", "-f", "{{.ID}}", driver)
	if err != nil {
		t.Fatal(err)
	}
	// Engines up to 20.10 have their plugins' sockets there whatever their exec root.
	sock := filepath.Join("/run/docker/plugins", strings.TrimSpace(id), "admin.sock")
	if _, err := os.Stat(sock); err != nil {
		sock = filepath.Join(e.ExecRoot, "plugins", strings.TrimSpace(id), "admin.sock")
	}
	var answer strings.Builder
	if err := admin.Get(ctx, sock, path, &answer); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return answer.String()
}

// A container's records that went to one collector until it died, and to another
// then, are found with both, and with nobody else.
func TestWhereRecordsAre(t *testing.T) {
	ctx := testContext(t)
	b := newBench(t, ctx, shared.engine)
	collectors := map[string]*collector.Server{}
	for _, name := range []string{"w1", "w2", "w3"} {
		collectors[name] = b.collector(name, "relp")
	}
	b.start("moved", nil, "workload", "seq", "-n", endless, "-rate", "4000")
	b.await("moved", 2000)
	for first := range b.check.Where("moved") {
		if err := collectors[first].Reset(); err != nil {
			t.Fatal(err)
		}
	}
	b.until("another one gets them", func() bool { return len(b.check.Where("moved")) > 1 })
	b.stop("moved")
	b.finish("moved")
	if got := adminGet(ctx, t, b.engine, "/drain"); !strings.Contains(got, "true") {
		t.Errorf("drain: %s", got)
	}
	wrote := b.settle().Expected
	hold := slices.Sorted(maps.Keys(b.check.Where("moved")))
	c, records := b.where("moved"), uint64(0)
	for _, i := range c.Intervals {
		records += i.Records
	}
	if len(hold) < 2 || !slices.Equal(c.Collectors, hold) || records < wrote || c.UndeliveredBytes != 0 {
		t.Errorf("held by %v; the answer is %+v", hold, c)
	}
}

// where asks the plugin who holds a container's records, all of which it has to know.
func (b *bench) where(name string) logadmin.ContainerRecords {
	b.Helper()
	answer := adminGet(b.ctx, b.T, b.engine, "/where?from=10m&container="+name)
	var w logadmin.Where
	if err := json.Unmarshal([]byte(answer), &w); err != nil || len(w.Containers) != 1 || !w.Containers[0].Complete {
		b.Fatalf("%v: %s", err, answer)
	}
	return w.Containers[0]
}

// What the manual says of looking into the plugin and of emptying it.
func TestMetricsStatusAndDrain(t *testing.T) {
	ctx := testContext(t)
	b := newBench(t, ctx, shared.engine)
	b.collector("c1", "relp")
	b.start("looked-at", nil, "workload", "seq", "-n", "500")
	b.finish("looked-at")
	if got := adminGet(ctx, t, b.engine, "/drain"); !strings.Contains(got, "true") {
		t.Errorf("drain: %s", got)
	}
	b.settle()
	if got := adminGet(ctx, t, b.engine, "/status"); !strings.Contains(got, `"name": "looked-at"`) || !strings.Contains(got, `"backlog_bytes": 0`) {
		t.Errorf("status: %s", got)
	}
	if got := adminGet(ctx, t, b.engine, "/metrics"); !strings.Contains(got, "dockline_log_records_acknowledged_total") {
		t.Errorf("metrics: %s", got)
	}
}
