package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/witness"
)

// Whatever ends and begins again, on every engine version: each byte that the
// engine wrote to a FIFO reaches the collector, in order, and what was
// acknowledged before the event does not come again after it. dockline-log is
// the engines' default driver.
func TestRecordsSurviveEveryEnd(t *testing.T) {
	t.Parallel()
	folder := build(t, driver)
	for _, suite := range debian.Suites {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, suite, folder)
			r.begin("steady", "workload", "seq", "-n", "100000000", "-rate", "1000")
			r.begin("bursts", "workload", "burst", "-n", "100000", "-lines", "3000", "-pause", "1s")

			r.event("plugin killed", goOn, func() { r.host.KillPlugin(driver) })
			r.event("engine restarted", beginAnew, r.host.RestartEngine)
			r.event("engine killed", areKilled, func() { r.crashEngine() })
			r.event("host loses power", areKilled, r.cutPower)
			r.event("engine killed, live-restore", goOn, func() { r.crashEngine() })
			r.event("engine restarted, live-restore", goOnUnseen, r.host.RestartEngine)
			r.event("plugin in a loop of crashes", goOn, r.loopOfCrashes)
			r.event("plugin upgraded", goOn, r.upgrade)
			r.event("plugin downgraded and back", goOnUnseen, r.downgrade)
			r.finish()
		})
	}
}

// What an event does to containers.
type effect int

const (
	goOn       effect = iota
	goOnUnseen        // and nobody can tell what the engine had read from them
	beginAnew         // after they have ended in order
	areKilled         // and begin anew
)

// rig is a host, a collector on another machine, and all that it has received.
type rig struct {
	*testing.T
	host       *hosts.Host
	folder     string // of the plugin
	url        string
	book       *witness.Book
	spool      *witness.Spool
	containers []*container
}

type container struct {
	name string
	pid  string
	runs []witness.Run
}

func newRig(t *testing.T, suite debian.Suite, folder string) *rig {
	t.Helper()
	lab := hosts.Open(t)
	lan := lab.Wire(t, "lan")
	r := &rig{T: t, folder: folder, book: witness.NewBook()}
	var s *collector.Server
	r.must(lan.Foreign("collector", "192.0.2.9/24").Do(func() (err error) {
		s, err = collector.Start(collector.Options{Name: "c1", Proto: "relp", Addr: "192.0.2.9:0", Each: r.book.Record})
		return err
	}))
	t.Cleanup(func() { _ = s.Reset() })
	r.url = s.URL()
	r.host = lab.Host(t, "a", suite, hosts.On(lan, "192.0.2.1/24"))
	version := r.host.Docker("version", "--format", "{{.Server.Version}}")
	if t.Log("engine", version); !strings.HasPrefix(version, engines[suite]) {
		t.Errorf("the engine of %s is %s", suite, version)
	}
	r.host.Install(driver, folder)
	r.spool = witness.NewSpool(r.host.Engine.DataRoot, r.host.Docker("plugin", "inspect", "--format", "{{.Id}}", driver))
	r.configure(false)
	r.host.RestartEngine()
	return r
}

// configure makes the plugin the default driver when the engine starts next.
func (r *rig) configure(live bool) {
	r.Helper()
	r.must(r.host.Engine.Configure(map[string]any{
		"live-restore": live, "log-driver": driver, "log-opts": map[string]string{"collectors": r.url},
	}))
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) context() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.Context(), 3*time.Minute, errors.New("it takes too long"))
}

// begin starts a container that the engine is to start again whenever it can.
func (r *rig) begin(name string, workload ...string) {
	r.Helper()
	r.host.Docker(append([]string{
		"run", "-d", "--network", "none", "--name", name, "--restart", "always", "--stop-timeout", "2",
		harness.Image, "workload", "tally",
	}, workload...)...)
	c := &container{name: name, pid: r.inspect(name, "{{.State.Pid}}")}
	r.containers = append(r.containers, c)
	r.await(c, time.Now())
}

func (r *rig) inspect(name, format string) string {
	r.Helper()
	return r.host.Docker("inspect", "--format", format, name)
}

// await waits until a line has come that was written after a moment.
func (r *rig) await(c *container, since time.Time) {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	changes, done := r.book.Changes()
	defer done()
	for !r.book.Account(c.name).Newest.After(since) {
		select {
		case <-changes:
		case <-ctx.Done():
			r.Fatalf("nothing that %s writes comes: %v", c.name, context.Cause(ctx))
		}
	}
}

// event lets something happen, and waits until records come again.
func (r *rig) event(what string, then effect, happen func()) {
	r.Helper()
	type before struct {
		account witness.Account
		acked   uint64
	}
	had := map[*container]before{}
	for _, c := range r.containers {
		acked, err := r.spool.Cursor(r.book.Account(c.name).Stream)
		r.must(err)
		had[c] = before{r.book.Account(c.name), acked}
	}
	seams, err := r.spool.Seams()
	r.must(err)
	start := time.Now()
	happen()
	took, now := time.Since(start), time.Now()
	for _, c := range r.containers {
		r.note(c, what, then)
		r.await(c, now)
		if n := r.book.Repeated(c.name, had[c].account, had[c].acked); n > 0 {
			r.Errorf("%s: %d records of %s came again that were acknowledged before", what, n, c.name)
		}
	}
	if then == goOnUnseen {
		r.must(r.spool.NoteSeams(seams))
	}
	r.Logf("%s: %.1f s, and %.1f until records came again", what, took.Seconds(), time.Since(now).Seconds())
}

// note looks whether a container did what it should, and writes its run down.
func (r *rig) note(c *container, what string, then effect) {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	old := c.pid
	r.must(proc.Await(ctx, func(context.Context) error { // the engine starts it in its own time
		if c.pid = r.inspect(c.name, "{{.State.Pid}}"); c.pid == "0" {
			return errors.New(c.name + " does not run")
		}
		return nil
	}))
	if anew := then == beginAnew || then == areKilled; anew != (c.pid != old) {
		r.Fatalf("%s: the process of %s was %s and is %s", what, c.name, old, c.pid)
	} else if anew {
		c.runs = append(c.runs, r.ended(c, then == areKilled))
	}
}

// ended is the last run that has ended.
func (r *rig) ended(c *container, killed bool) witness.Run {
	r.Helper()
	at, err := time.Parse(time.RFC3339Nano, r.inspect(c.name, "{{.State.FinishedAt}}"))
	r.must(err)
	if killed {
		return witness.Run{Killed: true, Ended: at}
	}
	ctx, cancel := r.context()
	defer cancel()
	wrote, err := r.host.Engine.Tally(ctx, c.name)
	r.must(err)
	return witness.Run{Lines: wrote.Stdout.Count, Ended: at}
}

// crashEngine kills the engine while pipes are full, for the plugin stands still.
func (r *rig) crashEngine() {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	p, err := r.host.Engine.Plugin(ctx, driver)
	r.must(err)
	r.must(witness.Freeze(ctx, p.PID))
	time.Sleep(200 * time.Millisecond) // lets the pipes fill; no less is right, only less severe
	r.must(r.spool.KillEngine(ctx, r.host.Engine))
	r.must(witness.Thaw(p.PID))
	r.must(r.host.Engine.Start(ctx))
}

// cutPower ends everything on the host at once. The machine below was not booted
// again, so it is the spool that is made to remember another boot. From then on
// the engine has live-restore.
func (r *rig) cutPower() {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	r.must(r.host.Host.Crash(ctx))
	r.must(r.spool.NoteEnds())
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	r.must(err)
	noted, err := os.ReadFile(filepath.Join(r.spool.State(), "boot"))
	r.must(err)
	another := strings.ReplaceAll(string(noted), strings.TrimSpace(string(boot)), "another")
	if another == string(noted) {
		r.Fatalf("the spool remembers the boot as %q, not as %s", noted, boot)
	}
	r.must(os.WriteFile(filepath.Join(r.spool.State(), "boot"), []byte(another), 0o600))
	r.configure(true)
	r.must(r.host.Engine.Start(ctx))
}

// loopOfCrashes lets the plugin die as if it had done so again and again. It
// only spools from then on, and the engine's log says so. What ends that is a
// stop in order.
func (r *rig) loopOfCrashes() {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	r.must(r.host.Engine.CrashLoop(ctx, driver, r.spool.Mount))
	r.awaitLog("again and again")
	stream := r.book.Account("steady").Stream
	acked, err := r.spool.Cursor(stream)
	r.must(err)
	r.must(r.spool.AwaitBacklog(ctx, stream, 64<<10))
	if now, err := r.spool.Cursor(stream); err != nil || now != acked {
		r.Errorf("the plugin ships after a loop of crashes: cursor at %d, then %d (%v)", acked, now, err)
	}
	r.host.Docker("plugin", "disable", "-f", driver)
	r.host.Docker("plugin", "enable", driver)
}

// awaitLog waits until the engine's log, which has the plugin's in it, says something.
func (r *rig) awaitLog(says string) {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	r.must(proc.Await(ctx, func(context.Context) error {
		log, err := os.ReadFile(r.host.Engine.Log)
		if err == nil && !strings.Contains(string(log), says) {
			err = fmt.Errorf("the engine's log does not say %q", says)
		}
		return err
	}))
}

// ask types what the manual says, until the plugin answers: it does not right
// after its start.
func (r *rig) ask(command ...string) (answer string) {
	r.Helper()
	root := r.host.Docker("info", "--format", "{{.DockerRootDir}}")
	id := r.host.Docker("plugin", "inspect", "--format", "{{.ID}}", driver)
	ctx, cancel := r.context()
	defer cancel()
	r.must(proc.Await(ctx, func(ctx context.Context) (err error) {
		answer, err = r.host.Host.Run(ctx, filepath.Join(root, "plugins", id, "rootfs/dockline-log"), command...)
		return err
	}))
	return answer
}

// upgrade replaces the plugin from a registry.
func (r *rig) upgrade() {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	engine := r.host.Engine
	another := filepath.Join(engine.Dir, "another")
	r.must(harness.AnotherBuild(ctx, r.folder, another, "another"))
	var registry *harness.Registry
	r.must(r.host.Host.Do(func() (err error) {
		registry, err = harness.StartRegistry(ctx, r.host.Lab(), "registry")
		return err
	}))
	defer registry.Close()
	remote, err := registry.Push(ctx, engine.Docker, driver+":another", another)
	r.must(err)
	r.must(engine.UpgradePlugin(ctx, driver, remote))
	p, err := engine.Plugin(ctx, driver)
	r.must(err)
	if is, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/dockline-build", p.PID)); string(is) != "another\n" {
		r.Errorf("after the upgrade, the plugin is %q (%v)", is, err)
	}
}

// downgrade makes the spool one of a newer version. The plugin changes nothing
// of it, containers go on, also over a restart of the engine, and begin; when
// the newer version is back, all that they wrote is there.
func (r *rig) downgrade() {
	r.Helper()
	version := filepath.Join(r.spool.State(), "VERSION")
	is, err := os.ReadFile(version)
	r.must(err)
	r.host.Docker("plugin", "disable", "-f", driver)
	r.must(os.WriteFile(version, []byte("dockline-spool 99\n"), 0o600))
	was, err := r.spool.Digest()
	r.must(err)
	r.host.Docker("plugin", "enable", driver)
	r.awaitLog("was downgraded")
	r.host.RestartEngine()
	r.host.Docker("run", "--network", "none", "--name", "late", harness.Image, "workload", "seq", "-n", "5")
	ctx, cancel := r.context()
	defer cancel()
	// The engine takes a reader's error or its end, whichever it happens to look at
	// first, and says nothing of an error after the end.
	var out string
	for range 100 {
		if out, err = r.host.Engine.Run(ctx, "logs", "late"); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "dockline-spool 99") {
		r.Errorf("docker logs says %q, %v", out, err)
	}
	r.host.Docker("plugin", "disable", "-f", driver)
	if now, err := r.spool.Digest(); err != nil || now != was {
		r.Errorf("the plugin changed a newer version's spool (%v)", err)
	}
	r.must(os.WriteFile(version, is, 0o600))
	r.host.Docker("plugin", "enable", driver)
	r.must(proc.Await(ctx, func(context.Context) error {
		if n := r.book.Account("late").Records; n != 5 {
			return fmt.Errorf("%d of 5 records of the container that began meanwhile have come", n)
		}
		return nil
	}))
}

// finish stops the containers, drains the plugin and judges.
func (r *rig) finish() {
	r.Helper()
	for _, c := range r.containers {
		r.host.Docker("stop", "-t", "30", c.name)
		c.runs = append(c.runs, r.ended(c, false))
	}
	r.ask("drain", "-timeout", "60s")
	r.must(r.spool.Acked())
	r.must(r.spool.NoteJumps())
	for _, p := range r.book.Problems() {
		r.Error(p)
	}
	for _, c := range r.containers {
		v := r.book.Judge(c.name, c.runs, r.spool, true)
		for _, p := range v.Problems {
			r.Error(p)
		}
		if !r.spool.Jumped(r.book.Account(c.name).Stream) {
			r.Errorf("%s: after a power cut, offsets of before were used again", c.name)
		}
		got := r.book.Account(c.name).Records
		r.Logf("%s, %d runs: %d records, lost %d, with the engine %d, duplicated %d, reordered %d",
			c.name, len(c.runs), got, v.Lost, v.Engine, v.Duplicated, v.Reordered)
		logs := r.host.Docker("logs", c.name)
		if n := strings.Count(logs, "\n") + 1; strconv.Itoa(n) != fmt.Sprint(got) {
			r.Errorf("docker logs of %s has %d lines, the collector %d", c.name, n, got)
		}
	}
}
