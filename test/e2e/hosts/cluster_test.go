package hosts_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

// Two hosts with different engines that share an etcd: one subnet, no address
// twice, whether or not etcd answers, and nothing left in it at the end.
func TestAClusterWithEtcd(t *testing.T) {
	t.Parallel()
	folder := build(t, "dockline-net")
	l := hosts.Open(t)
	lan, backbone := l.Wire(t, "lan"), l.Wire(t, "backbone")
	db := etcdOn(t, backbone.Foreign("db", "198.51.100.9/24"))
	machines := map[string]*hosts.Host{}
	for name, suite := range map[string]debian.Suite{"a": debian.Trixie, "b": debian.Bookworm} {
		h := l.Host(t, name, suite, hosts.On(lan), hosts.On(backbone, fmt.Sprintf("198.51.100.%d/24", name[0]-'a'+1)))
		h.Install("dockline-net", folder, "ETCD_ENDPOINTS=http://198.51.100.9:2379", "HOST_NAME=host-"+name)
		machines[name] = h
	}
	a, b := machines["a"], machines["b"]
	create := []string{"network", "create", "-d", netDriver, "--ipam-driver", netDriver, "-o", "parent=eth0",
		"--ipam-opt", "backend=etcd", "--ipam-opt", "share=lan", "--ipam-opt", "reserve=3"}
	a.Docker(append(create, "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.1", "--aux-address", "printer=192.0.2.2", "lan")...)
	if out, err := b.Engine.Run(t.Context(), append(create, "--subnet", "192.0.2.0/25", "lan")...); err == nil || !strings.Contains(err.Error(), "has the subnet 192.0.2.0/24 on host host-a") {
		t.Errorf("another subnet of the share: %v: %s", err, out)
	}
	b.Docker(append(create, "lan")...)
	taken := map[string]string{"192.0.2.1": "the gateway", "192.0.2.2": "the printer"}
	run := func(h *hosts.Host, name string) string {
		t.Helper()
		h.Docker("run", "-d", "--name", name, "--restart", "always", "--network", "lan", "--stop-signal", "KILL", harness.Image, "sleep", "1000")
		return h.Docker("inspect", "--format", "{{.NetworkSettings.Networks.lan.IPAddress}}", name)
	}
	for i := range 3 {
		for name, h := range machines {
			c := fmt.Sprintf("%s%d", name, i)
			at := run(h, c)
			if taken[at] != "" || !strings.HasPrefix(at, "192.0.2.") {
				t.Errorf("%s has %q, as has %s", c, at, taken[at])
			}
			taken[at] = c
		}
	}
	b1 := b.Docker("inspect", "--format", "{{.NetworkSettings.Networks.lan.IPAddress}}", "b1")
	a.Docker("exec", "a0", "ping", "-c", "1", "-W", "5", b1)
	if out, err := a.Engine.Run(t.Context(), "run", "--rm", "--network", "lan", "--ip", b1, harness.Image, "true"); err == nil || !strings.Contains(err.Error(), "host-b") && !strings.Contains(err.Error(), "on the wire") {
		t.Errorf("a's container gets the address of b's: %v: %s", err, out)
	}
	db.awaits(t, "six containers and six in reserve", func() bool { return db.count(t, "address") == 12 })

	db.signal(t, syscall.SIGSTOP)
	begin := time.Now()
	a.KillEngine()
	a.Docker("exec", "a0", "ping", "-c", "1", "-W", "5", b1) // the engine started it again, with an address of the reserve
	t.Logf("etcd away: the engine was killed and started, with its containers, in %s", time.Since(begin).Round(time.Millisecond))
	for i := range 3 {
		at := run(b, fmt.Sprintf("ahead%d", i))
		if taken[at] != "" {
			t.Errorf("from b's reserve: %s, which %s has", at, taken[at])
		}
		taken[at] = "b's reserve"
	}
	begin = time.Now()
	if out, err := b.Engine.Run(t.Context(), "run", "--rm", "--network", "lan", harness.Image, "true"); err == nil || !strings.Contains(err.Error(), "etcd cannot be asked") {
		t.Errorf("with nothing in reserve: %v: %s", err, out)
	}
	t.Logf("etcd away: a container was refused in %s", time.Since(begin).Round(time.Millisecond))
	db.signal(t, syscall.SIGCONT)
	db.awaits(t, "nine containers and six in reserve", func() bool { return db.count(t, "address") == 15 })

	a.Crash() // its containers start again, with addresses of their own
	seen := map[string]string{}
	for name, h := range machines {
		for _, c := range strings.Fields(h.Docker("ps", "--format", "{{.Names}}")) {
			at := h.Docker("inspect", "--format", "{{.NetworkSettings.Networks.lan.IPAddress}}", c)
			if seen[at] != "" || at == "" {
				t.Errorf("after %s's power was cut: %s has %q, as has %s", "a", c, at, seen[at])
			}
			seen[at] = name + "'s " + c
		}
	}
	if len(seen) != 9 {
		t.Errorf("of nine containers there are %v", seen)
	}
	for _, h := range machines {
		h.Docker(append([]string{"rm", "-f"}, strings.Fields(h.Docker("ps", "-aq"))...)...)
		h.Docker("network", "rm", "lan")
	}
	db.awaits(t, "nothing is left", func() bool { return db.count(t, "address")+db.count(t, "aside")+db.count(t, "pool") == 0 })
}

// etcd is a real one on a host of its own.
type etcd struct {
	*hosts.Station
	process *os.Process
	token   string // of who may do everything; "": anybody may
}

func etcdOn(t *testing.T, on *hosts.Station) *etcd {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd") // short enough, and on the disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd := on.Command(t.Context(), "etcd", "--data-dir", filepath.Join(dir, "data"), "--log-level", "fatal", "--logger", "zap",
		"--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", "http://198.51.100.9:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	e := &etcd{Station: on, process: cmd.Process}
	e.awaits(t, "etcd answers", func() bool {
		_, err := e.Station.Station.Run(t.Context(), "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:2379/health")
		return err == nil
	})
	return e
}

func (e *etcd) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := e.process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// count returns how many keys a folder of ours has.
func (e *etcd) count(t *testing.T, folder string) (n int) {
	t.Helper()
	key := func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte("/dockline/addresses/" + folder + s))
	}
	out := e.ask("kv/range", fmt.Sprintf(`{"key":%q,"range_end":%q}`, key("/"), key("0")))
	if _, after, found := strings.Cut(out, `"count":"`); found {
		if _, err := fmt.Sscanf(after, "%d", &n); err != nil {
			t.Fatalf("etcd says %s", out)
		}
	}
	return n
}

// ask is one call of etcd's API.
func (e *etcd) ask(path, body string) string {
	args := []string{"wget", "-q", "-O", "-", "--post-data", body, "http://127.0.0.1:2379/v3/" + path}
	if e.token != "" {
		args = append(args, "--header", "Authorization: "+e.token)
	}
	return e.Run("busybox", args...)
}

// protect has it ask everybody for a password: the user dockline for this one, which
// may do what the plugin needs.
func (e *etcd) protect(t *testing.T, password string) {
	t.Helper()
	key := func(s string) string { return base64.StdEncoding.EncodeToString([]byte("/dockline/addresses" + s)) }
	for _, user := range []string{"root", "dockline"} {
		e.ask("auth/user/add", fmt.Sprintf(`{"name":%q,"password":%q}`, user, password))
		e.ask("auth/role/add", fmt.Sprintf(`{"name":%q}`, user))
		e.ask("auth/user/grant", fmt.Sprintf(`{"user":%q,"role":%[1]q}`, user))
	}
	e.ask("auth/role/grant", fmt.Sprintf(`{"name":"dockline","perm":{"permType":"READWRITE","key":%q,"range_end":%q}}`, key("/"), key("0")))
	e.ask("auth/enable", "{}")
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(e.ask("auth/authenticate", fmt.Sprintf(`{"name":"root","password":%q}`, password))), &answer); err != nil || answer.Token == "" {
		t.Fatalf("etcd gives no token: %v", err)
	}
	e.token = answer.Token
}

const awaitTime = 3 * time.Minute

// awaits waits for what happens in other processes.
func (e *etcd) awaits(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(awaitTime); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v; there are %d, %d set aside and %d networks", what, awaitTime, e.count(t, "address"), e.count(t, "aside"), e.count(t, "pool"))
		}
		time.Sleep(100 * time.Millisecond) // there is nothing to subscribe to
	}
}
