package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/promtest"
	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/proc"
)

// keyed are two plugins that have their configuration, and some collectors, from
// an etcd, as those of two hosts would. The first one's spool has a small disk.
type keyed struct {
	*bench
	*promtest.Prometheus
	etcd    *keeper
	plugins [2]string // their names
	etc     [2]string // the /etc of each
	at      [2]string // their metrics
	disk    string
}

// keeper is a real etcd.
type keeper struct {
	*bench
	addr, peer, dir string
	cmd             *exec.Cmd
	client          *clientv3.Client
}

func newKeeper(b *bench) *keeper {
	b.Helper()
	k := &keeper{bench: b, addr: testport.Of(b), peer: "http://" + testport.Of(b), dir: filepath.Join(shared.lab.Dir, "keeper")}
	b.Cleanup(k.kill)
	k.start()
	var err error
	if k.client, err = clientv3.New(clientv3.Config{Endpoints: []string{"http://" + k.addr}, Logger: zap.NewNop()}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = k.client.Close() })
	return k
}

func (k *keeper) start() {
	k.Helper()
	k.cmd = exec.Command("etcd", "--data-dir", k.dir, "--log-level", "fatal", "--listen-client-urls", "http://"+k.addr, "--advertise-client-urls", "http://"+k.addr,
		"--listen-peer-urls", k.peer, "--initial-advertise-peer-urls", k.peer, "--initial-cluster", "default="+k.peer)
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is not for it
	if err := k.cmd.Start(); err != nil {
		k.Fatal(err)
	}
}

func (k *keeper) kill() {
	if k.cmd != nil {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
		k.cmd = nil
	}
}

// put waits until etcd takes it, which may just have been started.
func (k *keeper) put(key, value string) {
	k.Helper()
	ctx, cancel := context.WithTimeoutCause(k.ctx, 20*time.Second, errors.New("etcd takes nothing"))
	defer cancel()
	if err := proc.Await(ctx, func(ctx context.Context) error {
		_, err := k.client.Put(ctx, key, value)
		return err
	}); err != nil {
		k.Fatal(err)
	}
}

// smallDisk is one of 64 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(shared.lab.Dir, "small-disk")
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("small", dir, "tmpfs", 0, "size=64m")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

const configKey, membersKey = "/dockline/log.yaml", "/members/"

func newKeyed(t *testing.T) *keyed {
	t.Helper()
	b := newBench(t, testContext(t), shared.engine)
	k := &keyed{bench: b, etcd: newKeeper(b), disk: smallDisk(t)}
	return k
}

// install starts the plugins, and a Prometheus that scrapes both.
func (k *keyed) install() {
	k.Helper()
	for i, settings := range [][]string{{"spool.source=" + k.disk, "SPOOL_MIN_FREE=16MiB"}, {}} {
		k.plugins[i], k.etc[i], k.at[i] = fmt.Sprint(driver, "-", i), filepath.Join(shared.lab.Dir, fmt.Sprint("etc-", i)), testport.Of(k)
		if err := os.Mkdir(k.etc[i], 0o755); err != nil {
			k.Fatal(err)
		}
		settings = append(settings, "CONFIG=etcd://"+k.etcd.addr+configKey, "METRICS="+k.at[i], "etc.source="+k.etc[i], "resolv.source="+k.etc[i])
		k.Cleanup(func() {
			if err := errors.Join(k.engine.Remove(context.Background(), k.names...), k.engine.RemovePlugin(context.Background(), k.plugins[i])); err != nil {
				k.Error(err)
			}
		})
		build := filepath.Join(shared.lab.Dir, k.plugins[i]) // an engine takes none that it has
		if err := harness.AnotherBuild(k.ctx, shared.build, build, k.plugins[i]); err != nil {
			k.Fatal(err)
		}
		if err := k.engine.InstallPlugin(k.ctx, k.plugins[i], build, settings...); err != nil {
			k.Fatal(err)
		}
	}
	top, err := harness.ModuleDir()
	if err != nil {
		k.Fatal(err)
	}
	k.Prometheus = promtest.Run(k.T, promtest.Setup{
		Rules:   []string{promtest.Lapse(k.T, filepath.Join(top, "plugin-config/prometheus/dockline-log.rules.yml"), 400*time.Millisecond, nil)},
		Targets: map[string]string{driver: strings.Join(k.at[:], ",")}, Every: alarmRate,
	})
}

// run starts a container of the first plugin's.
func (k *keyed) run(name, pool string, lines, rate int) {
	k.Helper()
	k.start(name, []string{"--log-driver", k.plugins[0], "--log-opt", "pool=" + pool, "--log-opt", "hash=record"},
		"workload", "seq", "-n", fmt.Sprint(lines), "-rate", fmt.Sprint(rate))
}

// relp starts a collector.
func (k *keyed) relp(name, addr string) *collector.Server {
	k.Helper()
	s, err := collector.Start(collector.Options{Name: name, Proto: "relp", Addr: addr, Each: k.check.Record})
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { _ = s.Reset() })
	return s
}

// web starts a collector that can be told to be busy.
func (k *keyed) web(name string, busy *atomic.Bool) (url string) {
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if busy.Load() {
			rw.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	k.Cleanup(s.Close)
	return "json+http://" + s.Listener.Addr().String() + "?name=" + name
}

// What goes wrong with collectors and a configuration that an etcd names, with a
// collector that has too much to do, and with the spool's disk, makes the alerts
// fire that are for it, and they end when it is well again.
func TestAlertsOfSourcesAndDisksFire(t *testing.T) {
	k := newKeyed(t)
	var busy, never atomic.Bool
	overloaded, well := k.web("overloaded", &busy), k.web("well", &never)
	away, member := k.relp("away", testport.Of(t)), k.relp("member", "") // the one comes back where it was
	rest := fmt.Sprintf("\n  away: {collectors: '%s'}\n  members: {collectors: 'etcd+relp://%s'}\ndefaults: {pools: [mixed]}\n", away.URL(), k.etcd.addr+membersKey)
	good := fmt.Sprintf("pools:\n  mixed: {collectors: '%s,%s'}", overloaded, well) + rest
	k.etcd.put(configKey, good)
	k.etcd.put(membersKey+"one", member.Addr())
	k.install()
	k.run("steady", "mixed", 500_000, 1000)   // longer than the test
	k.run("sourced", "members", 100_000, 200) // the same: nobody asks for the collectors of a pool that nobody uses
	k.Value(`count(dockline_log_config_info == 1)`, 2)
	k.Value(`count(count by (version) (dockline_log_config_info))`, 1)
	k.Value(`sum(dockline_log_source_failing)`, 0)
	k.Value(`count(dockline_log_spool_limit_bytes < dockline_log_spool_max_bytes)`, 1)
	if got := k.Firing(); len(got) > 0 {
		t.Errorf("all is well, and there fire %q", got)
	}

	busy.Store(true)
	if err := away.Reset(); err != nil {
		t.Fatal(err)
	}
	const backlog = 120_000 // lines of 144 bytes: 16 MiB
	k.run("waiting", "away", backlog, 60_000)
	// Only one of the hosts has a file that the new configuration needs.
	ca, err := testcert.New("ca")
	if err == nil {
		err = testcert.WriteFile(k.etc[0], "ca.pem", ca.PEM)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.etcd.put(configKey, strings.Replace(good, "defaults:", "  safe: {collectors: 'relp+tls://127.0.0.1:1', files: {tls-ca: /etc/ca.pem}}\ndefaults:", 1))
	k.Fires("DocklineLogConfigRefused", "instance", k.at[1])
	k.Fires("DocklineLogConfigDiffers")
	k.Value(`count(count by (version) (dockline_log_config_info))`, 2)
	k.etcd.put(configKey, good)
	k.Clears("DocklineLogConfigRefused", "DocklineLogConfigDiffers")

	if _, err := k.engine.Wait(k.ctx, "waiting"); err != nil {
		t.Fatal(err)
	}
	k.othersFillTheDisk()
	k.etcd.kill()
	k.Fires("DocklineLogSourceFailing")
	k.Fires("DocklineLogConfigSourceFailing")
	k.Fires("DocklineLogPushback", "collector", "overloaded")
	k.etcd.start()
	k.etcd.put(configKey, fmt.Sprintf("pools:\n  mixed: {collectors: '%s'}", well)+rest) // another one takes its place
	k.relp("away", away.Addr())
	k.Clears("DocklineLogSourceFailing", "DocklineLogConfigSourceFailing", "DocklineLogPushback", "DocklineLogBacklogAge", "DocklineLogCollectorDown")
	k.Value("sum(dockline_log_lost_bytes_total) + sum(dockline_log_spool_dropped_bytes_total)", 0)
}

// othersFillTheDisk leaves little of it to the spool: then a backlog is much that
// was not before.
func (k *keyed) othersFillTheDisk() {
	k.Helper()
	if got := k.Query("instance:dockline_log_backlog:ratio > 0.7"); len(got) > 0 {
		k.Errorf("the backlog fills the spool: %v", got)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(k.disk, &fs); err != nil {
		k.Fatal(err)
	}
	const left = 16<<20 + 3<<20 // the reserve, and a little
	file := filepath.Join(k.disk, "somebody's")
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-left), f.Close())
	}
	if err != nil {
		k.Fatal(err)
	}
	k.Fires("DocklineLogBudget", "instance", k.at[0])
	if err := os.Remove(file); err != nil {
		k.Fatal(err)
	}
	k.Clears("DocklineLogBudget")
}
