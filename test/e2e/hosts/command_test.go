package hosts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/trace"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/proc"
)

const metricsAt = "127.0.0.1:9742"

// docker dockline net, as the docker command calls it, on two hosts that share an
// etcd and two wires: traces of what works and what is broken, what differs,
// addresses of the cluster, and probes of the gateway.
func TestTheNetCommandOnACluster(t *testing.T) {
	t.Parallel()
	folder := build(t, "dockline-net")
	l := hosts.Open(t)
	lan, dmz, backbone := l.Wire(t, "lan"), l.Wire(t, "dmz"), l.Wire(t, "backbone")
	etcdOn(t, backbone.Foreign("db", "198.51.100.9/24"))
	gw := lan.Foreign("gw", "192.0.2.1/24")
	machines := map[string]*operated{}
	for name, suite := range map[string]debian.Suite{"a": debian.Trixie, "b": debian.Bookworm} {
		h := l.Host(t, name, suite, hosts.On(lan), hosts.On(dmz), hosts.On(backbone, fmt.Sprintf("198.51.100.%d/24", name[0]-'a'+1)))
		h.Install("dockline-net", folder, "ETCD_ENDPOINTS=http://198.51.100.9:2379", "HOST_NAME=host-"+name, "METRICS="+metricsAt, "PROBE_INTERVAL=1s")
		machines[name] = &operated{h, t}
	}
	a, b := machines["a"], machines["b"]
	for _, m := range machines {
		m.Docker("network", "create", "-d", netDriver, "--ipam-driver", netDriver, "-o", "parent=eth0", "-o", "probe_peers=192.0.2.77",
			"--ipam-opt", "backend=etcd", "--ipam-opt", "share=lan", "--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.0/26", "--gateway", "192.0.2.1", "lan") // beyond are a peer and a reservation
	}
	a.Docker("network", "create", "-d", netDriver, "--ipam-driver", netDriver, "-o", "mode=bridge", "-o", "uplink=eth1", "--subnet", "203.0.113.0/24", "--gateway", "203.0.113.254", "dmz")
	for name, network := range map[string]string{"web": "lan", "db": "lan", "up1": "dmz", "up2": "dmz", "two": "lan", "apart": "none"} {
		a.run(name, network)
	}
	a.Docker("network", "connect", "dmz", "two")
	a.Docker("run", "--name", "ended", "--network", "lan", harness.Image, "true")
	b.run("far", "lan")
	far := b.Docker("inspect", "--format", "{{.NetworkSettings.Networks.lan.IPAddress}}", "far")
	farSpeaks := b.speaker("far")

	a.healthy(far)
	a.addresses(b, far)
	b.dies() // what lives on are its containers
	a.faults(b, gw, far)
	a.reclaims(far, farSpeaks)
	a.probed()
}

// operated is a host whose operator types docker dockline.
type operated struct {
	*hosts.Host
	t *testing.T
}

func (m *operated) run(name, network string) {
	m.Docker("run", "-d", "--name", name, "--network", network, "--stop-signal", "KILL", harness.Image, "sleep", "1000")
}

// types runs docker dockline net on the host and returns what it prints and its exit code.
func (m *operated) types(args ...string) (out, errs string, code int) {
	m.t.Helper()
	return m.typesAny(append([]string{"net"}, args...)...)
}

func (m *operated) typesAny(args ...string) (out, errs string, code int) {
	m.t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(m.t.Context(), 3*time.Minute, errors.New("docker dockline takes too long"))
	defer cancel()
	// A host's files are not those of the machine, which its /proc leads to.
	binary := fmt.Sprintf("/proc/%d/root%s", os.Getpid(), filepath.Join(top, "build/docker-dockline"))
	cmd := m.Command(ctx, binary, append([]string{"dockline"}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+m.Engine.Addr)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("docker dockline (make cli): %v", err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// says wants what the command prints, on stdout or else stderr, and its exit code.
func (m *operated) says(code int, want string, args ...string) {
	m.t.Helper()
	out, errs, got := m.types(args...)
	if got != code || !regexp.MustCompile("(?m)"+want).MatchString(out+errs) {
		m.t.Errorf("docker dockline net %s ends with %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, code, want, out, errs)
	}
}

// traces wants a verdict, in JSON.
func (m *operated) traces(from, to string, fault trace.Fault, words string) *trace.Report {
	m.t.Helper()
	begun := time.Now()
	out, errs, code := m.types("trace", "--format", "json", from, to)
	r := &trace.Report{}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		m.t.Errorf("from %s to %s (%d): %v: %s%s", from, to, code, err, out, errs)
		return r
	}
	v := r.Verdict
	if v.Fault != fault || !strings.Contains(v.Words+v.Do, words) || code != map[bool]int{true: 0, false: 1}[fault == trace.None] {
		var text strings.Builder
		_ = r.Print(&text)
		m.t.Errorf("from %s to %s (%d): want %q and %q:\n%s", from, to, code, fault, words, &text)
	}
	m.t.Logf("%s to %s in %v: %s", from, to, time.Since(begun).Round(10*time.Millisecond), v.Words)
	return r
}

// in runs a command of the host's in a container's network.
func (m *operated) in(container string, command ...string) {
	m.t.Helper()
	pid := m.Docker("inspect", "--format", "{{.State.Pid}}", container)
	m.Run("nsenter", append([]string{"--net=/proc/" + pid + "/ns/net", "--"}, command...)...)
}

// speaker makes a function that has a container ask the wire for an address that
// nobody has, by its own: everybody hears that it is there.
func (m *operated) speaker(container string) func() {
	m.t.Helper()
	pid := m.Docker("inspect", "--format", "{{.State.Pid}}", container)
	return func() {
		m.t.Helper()
		m.Run("nsenter", "--net=/proc/"+pid+"/ns/net", "--", "bash", "-c", "echo here >/dev/udp/192.0.2.250/9")
	}
}

// together does things at once that mostly wait.
func together(all ...func()) {
	var wg sync.WaitGroup
	for _, do := range all {
		wg.Go(do)
	}
	wg.Wait()
}

func (m *operated) healthy(far string) {
	m.t.Helper()
	onMode := func(from, to, mode string, fault trace.Fault, words string) func() {
		return func() {
			if r := m.traces(from, to, fault, words); r.From.Network == nil || r.From.Network.Mode != mode {
				m.t.Errorf("from %s to %s the trace is made on %+v", from, to, r.From.Network)
			}
		}
	}
	together(
		func() { m.says(0, `^A reaches B: 5 of 5 echoes answered`, "trace", "web", "db") },
		func() { m.says(0, `^dl[a-z]*-\S+ +port on the host +up, on dlb-`, "trace", "up1", "up2") },
		func() { m.says(0, `^B +`+far+`: of host host-b by the cluster's records`, "trace", "web", far) },
		onMode("two", "up1", "bridge", trace.None, "5 of 5"), // both are on dmz
		onMode("two", "web", "macvlan", trace.None, "5 of 5"),
		onMode("two", "203.0.113.77", "bridge", trace.FarDead, "does not answer ARP"), // it sends there by dmz
	)
	m.traces("web", "ended", trace.NotRunning, "The container of B does not run (exited)")
	m.says(2, `the container apart has no address of its own`, "trace", "web", "apart")
	m.says(2, `the container apart is on no dockline-net network of this host`, "trace", "apart", "web")
	m.says(2, `are one container|is A itself`, "trace", "web", "web")
	m.says(2, `"nobody.invalid" is no container or endpoint that is known here, no address, and no host by name`, "trace", "web", "nobody.invalid")
	m.says(2, `took longer than 10ms`, "trace", "--timeout", "10ms", "web", "db")
	m.says(0, `^all is as it is meant to be: networks 2, endpoints 6$`, "check")
	m.says(0, `^repaired 0, adopted 0, abandoned 0, addresses released 0, in `, "reconcile")
}

func (m *operated) addresses(b *operated, far string) {
	m.t.Helper()
	m.says(0, `^`+far+` +lan +cluster +\S+ +host-b$`, "addr", "ls")
	m.says(0, `^192.0.2.1 +lan +given +gateway +-$`, "addr", "ls")
	if out, _, _ := m.types("addr", "ls"); strings.Contains(out, "quarantined") { // as nobody is but the gateway and the other host's
		m.t.Errorf("addr ls says\n%s", out)
	}
	b.says(0, `^`+far+` +lan +given +far +-$`, "--plugin", "dockline-net", "addr", "ls", "--network", "lan")
	m.says(0, `^192.0.2.200 of 192.0.2.0/24 is reserved for `, "addr", "reserve", "192.0.2.200", "--network", "lan", "--mac", "02:00:5e:00:53:01")
	for _, h := range []*operated{m, b} {
		h.eventually("it is reserved on every host", func() error {
			out, _, _ := h.types("addr", "ls")
			if !regexp.MustCompile(`(?m)^192.0.2.200 +lan +reserved `).MatchString(out) {
				return errors.New(out)
			}
			return nil
		})
	}
	m.says(1, `reserved`, "addr", "reserve", "192.0.2.200", "--network", "lan", "--mac", "02:00:5e:00:53:02")
	m.says(0, `^192.0.2.200 is not reserved any more$`, "addr", "unreserve", "192.0.2.200", "--network", "lan")
	m.says(1, `is alive`, "addr", "reclaim", "host-b")
	m.says(1, `nobody`, "addr", "reclaim", "nobody")
}

func (m *operated) faults(b *operated, gw *hosts.Station, far string) {
	m.t.Helper()
	web := m.Docker("inspect", "--format", "{{.NetworkSettings.Networks.lan.IPAddress}}", "web")
	m.in("up2", "iptables", "-I", "INPUT", "-p", "icmp", "-j", "DROP")
	m.in("db", "iptables-legacy", "-I", "INPUT", "-p", "icmp", "-j", "DROP")
	gw.Run("ip", "address", "add", web+"/32", "dev", "eth0")
	together(
		func() {
			m.traces("up1", "up2", trace.Firewalled, "B answers ARP but drops packets: the firewall in the sandbox of B, rule")
		},
		func() { m.traces("two", "db", trace.Firewalled, "of iptables-legacy, ended 5") },
		func() { m.traces("two", "web", trace.Duplicate, "Two machines have the address "+web+" of B") },
	)
	gw.Run("ip", "address", "delete", web+"/32", "dev", "eth0")

	m.in("up2", "ip", "link", "set", "eth0", "down")
	if err := b.Cut(m.t.Context(), "eth0"); err != nil {
		m.t.Fatal(err)
	}
	together(
		func() { m.traces("up1", "up2", trace.LinkDown, "eth0 in the sandbox of B is down") },
		func() {
			m.traces("web", far, trace.FarDead, "By the cluster's records the address is host host-b's")
		},
		func() { m.says(1, `^dmz +up2 +eth0 in the sandbox is down$`, "check") },
		func() { m.says(1, `^dmz +up2 +eth0 in the sandbox is down$`, "check", "dmz") },
	)
	m.in("up2", "ip", "link", "set", "eth0", "up")
	if err := errors.Join(b.Mend(m.t.Context(), "eth0"), m.Cut(m.t.Context(), "eth0")); err != nil {
		m.t.Fatal(err)
	}
	m.traces("web", far, trace.ParentDown, "no carrier")
	lost := m.counted("dockline_net_probe_lost_total", "192.0.2.1")
	m.eventually("questions to the gateway are lost", func() error {
		if now := m.counted("dockline_net_probe_lost_total", "192.0.2.1"); now <= lost {
			return fmt.Errorf("%v, and %v before", now, lost)
		}
		return nil
	})
	if err := m.Mend(m.t.Context(), "eth0"); err != nil {
		m.t.Fatal(err)
	}
	port := kernel.HostName(m.Docker("inspect", "--format", "{{.NetworkSettings.Networks.dmz.EndpointID}}", "up1"))
	m.Run("ip", "link", "set", port, "nomaster")
	m.says(0, `^repaired \d`, "reconcile")
	m.eventually("all is as it is meant to be", func() error { // conflicts take half a minute to be over
		if out, _, code := m.types("check"); code != 0 && !strings.Contains(out, "has its address") {
			return errors.New(out)
		}
		return nil
	})
}

// dies kills the engine and the plugin for good.
func (m *operated) dies() {
	m.t.Helper()
	ctx, cancel := context.WithTimeoutCause(m.t.Context(), 3*time.Minute, errors.New("they do not die"))
	defer cancel()
	p, err := m.Engine.Plugin(ctx, "dockline-net")
	if err != nil {
		m.t.Fatal(err)
	}
	if err := errors.Join(m.Engine.Kill(), proc.Kill(ctx, p)); err != nil {
		m.t.Fatal(err)
	}
}

// reclaims takes the addresses of a host back that is gone, once it is known to be.
func (m *operated) reclaims(far string, farSpeaks func()) {
	m.t.Helper()
	begun := time.Now()
	m.eventually("the host is known to be lost", func() error {
		out, errs, code := m.types("addr", "reclaim", "host-b")
		if code != 0 {
			return errors.New(errs)
		}
		if !strings.Contains(out, far+"\n") || !strings.Contains(errs, "addresses of host-b are free") {
			m.t.Errorf("reclaimed %s%s", out, errs)
		}
		return nil
	})
	m.t.Logf("the other host's addresses were reclaimed after %v more", time.Since(begun).Round(time.Second))
	m.eventually("the container is there still, so its address is not given out", func() error {
		farSpeaks() // it may have been found to be gone while a cable was cut
		if out, _, _ := m.types("addr", "ls"); !regexp.MustCompile(`(?m)^` + far + ` +lan +quarantined `).MatchString(out) {
			return errors.New(out)
		}
		return nil
	})
}

// counted reads a metric of questions by ARP.
func (m *operated) counted(name, peer string) (n float64) {
	m.t.Helper()
	out, _, _ := m.types("metrics")
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, fmt.Sprintf("peer=%q,protocol=\"arp\"", peer)) {
			_, _ = fmt.Sscanf(line[strings.LastIndex(line, " ")+1:], "%g", &n)
		}
	}
	return n
}

// probed looks at what the plugin found out of the gateway meanwhile.
func (m *operated) probed() {
	m.t.Helper()
	answered := m.counted("dockline_net_probe_rtt_seconds_count", "192.0.2.1")
	if sum := m.counted("dockline_net_probe_rtt_seconds_sum", "192.0.2.1"); answered < 3 || sum <= 0 || sum > answered {
		m.t.Errorf("the gateway answered %v times, in %v s altogether", answered, sum)
	}
	if sent, lost := m.counted("dockline_net_probe_sent_total", "192.0.2.77"), m.counted("dockline_net_probe_lost_total", "192.0.2.77"); sent < 3 || lost < sent-1 {
		m.t.Errorf("of %v questions to nobody %v were lost", sent, lost)
	}
	m.KillPlugin("dockline-net")
	m.eventually("probes go on in the next process", func() error {
		if n := m.counted("dockline_net_probe_rtt_seconds_count", "192.0.2.1"); n < 2 {
			return fmt.Errorf("the gateway answered %v times", n)
		}
		return nil
	})
}

func (m *operated) eventually(what string, is func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeoutCause(m.t.Context(), 3*time.Minute, errors.New("it never is so"))
	defer cancel()
	if err := proc.Await(ctx, func(context.Context) error { return is() }); err != nil {
		m.t.Errorf("%s: %v", what, err)
	}
}
