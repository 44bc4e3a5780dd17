package docs_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/dhcpd"
	"github.com/dockline/dockline/test/harness/proc"
)

// run starts a daemon on the machine, which ends at the next reset, and waits
// until it listens, at an address or on a socket.
func (m *machine) run(ctx context.Context, listens string, name string, args ...string) error {
	cmd := m.Command(context.WithoutCancel(ctx), name, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_TARGET=console")
	log, err := os.Create(filepath.Join(m.dir, filepath.Base(name)+".log"))
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	m.world.until(func() error {
		err := cmd.Process.Kill()
		<-done
		if errors.Is(err, os.ErrProcessDone) {
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s ended before its time: %s", name, said)
		}
		return err
	})
	err = proc.Await(ctx, func(ctx context.Context) error {
		if strings.HasPrefix(listens, "/") {
			_, err := m.Host.Host.Run(ctx, "test", "-S", listens)
			return err
		}
		return m.Host.Host.Do(func() error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", listens)
			if err != nil {
				return err
			}
			return conn.Close()
		})
	})
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("start %s: %w: %s", name, err, said)
	}
	return nil
}

// rsyslogConf is Debian's, but for the sources that are this machine's: its
// kernel's log, and /dev/log.
const rsyslogConf = `module(load="builtin:omfile")
$WorkDirectory /var/spool/rsyslog
$IncludeConfig /etc/rsyslog.d/*.conf
`

// rsyslog is what the service does when it is restarted.
func (m *machine) rsyslog(ctx context.Context) error {
	if said, err := m.Command(ctx, "rsyslogd", "-N1", "-f", "/etc/rsyslog.conf").CombinedOutput(); err != nil {
		return fmt.Errorf("rsyslogd -N1: %w: %s", err, said)
	}
	return m.run(ctx, "10.0.0.11:2514", "rsyslogd", "-n", "-f", "/etc/rsyslog.conf", "-i", "/run/rsyslogd.pid")
}

// journaldConf keeps the world's journal from what is this machine's.
const journaldConf = `[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
`

// journald starts the host's journal.
func (w *world) journald() {
	w.Helper()
	ctx, cancel := w.rack1.context()
	defer cancel()
	w.rack1.write("/etc/systemd/journald.conf.d/00-world.conf", journaldConf)
	w.rack1.sh("rm -rf /run/systemd/journal /run/log/journal; mkdir -p /run/systemd/journal /run/log/journal")
	if err := w.rack1.run(ctx, "/run/systemd/journal/socket", "/usr/lib/systemd/systemd-journald"); err != nil {
		w.Fatal(err)
	}
}

// serve has a handler answer at an address of the world.
func (w *world) serve(addr string, handler http.Handler) {
	w.Helper()
	s, ln := &http.Server{Handler: handler}, w.listen(addr)
	go func() { _ = s.Serve(ln) }()
	w.until(s.Close)
}

// serveTLS is serve with a certificate for a name.
func (w *world) serveTLS(addr, name string, handler http.Handler) {
	w.Helper()
	pair, err := w.authority.Issue(24*time.Hour, name)
	if err != nil {
		w.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		w.Fatal(err)
	}
	s, ln := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}, w.listen(addr)
	go func() { _ = s.ServeTLS(ln, "", "") }()
	w.until(s.Close)
}

func (w *world) listen(addr string) (ln net.Listener) {
	w.Helper()
	w.logs.Do(func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	})
	return ln
}

// dhcp has the LAN's router lease addresses.
func (w *world) dhcp() {
	w.Helper()
	server, err := dhcpd.New(w.lab.Lab, dhcpd.Dnsmasq, w.logs.Station, dhcpd.Settings{
		Subnet: netip.MustParsePrefix("192.168.1.0/24"), First: netip.MustParseAddr("192.168.1.100"), Last: netip.MustParseAddr("192.168.1.149"),
		Router: netip.MustParseAddr("192.168.1.1"), Lease: 10 * time.Minute,
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := w.logs.context()
	defer cancel()
	if err := server.Start(ctx); err != nil {
		w.Fatal(err)
	}
	w.until(server.Stop)
}

// registry is the one that plugins come from: Debian's, by TLS, with an authority
// that the engine was told of. The plugins are in it, under these tags.
func (w *world) registry(tags ...string) {
	w.Helper()
	pair, err := w.authority.Issue(24*time.Hour, "registry.example.com")
	if err != nil {
		w.Fatal(err)
	}
	w.logs.write("/etc/docker/registry/server.pem", string(pair.Cert))
	w.logs.write("/etc/docker/registry/server.key", string(pair.Key))
	w.logs.write("/etc/docker/registry/documented.yml", `version: 0.1
storage: {filesystem: {rootdirectory: /run/registry}, delete: {enabled: true}}
http: {addr: "10.0.0.5:443", tls: {certificate: /etc/docker/registry/server.pem, key: /etc/docker/registry/server.key}}
`)
	w.rack1.write("/etc/docker/certs.d/registry.example.com/ca.crt", string(w.authority.PEM))
	ctx, cancel := w.logs.context()
	defer cancel()
	if err := w.logs.run(ctx, "10.0.0.5:443", "docker-registry", "serve", "/etc/docker/registry/documented.yml"); err != nil {
		w.Fatal(err)
	}
	for _, tag := range tags {
		for _, plugin := range []string{"dockline-log", "dockline-net"} {
			// Another tag is another build: an engine upgrades to no other.
			folder := filepath.Join(w.TempDir(), tag, plugin)
			if out, err := exec.Command("mkdir", "-p", filepath.Dir(folder)).CombinedOutput(); err != nil {
				w.Fatalf("%v: %s", err, out)
			}
			if err := harness.AnotherBuild(ctx, w.built("plugins/"+plugin), folder, tag); err != nil {
				w.Fatal(err)
			}
			r := &harness.Registry{Addr: "registry.example.com"}
			if _, err := r.Push(ctx, w.rack1.Engine.Docker, plugin+":"+tag, folder); err != nil {
				w.Fatal(err)
			}
		}
	}
}

// etcd has one answer at the addresses that pages give a cluster's members.
func (w *world) etcd() {
	w.Helper()
	const urls = "http://10.0.0.21:2379,http://10.0.0.22:2379,http://10.0.0.23:2379,http://127.0.0.1:2379"
	ctx, cancel := w.logs.context()
	defer cancel()
	w.logs.sh("rm -rf /var/lib/etcd-documented")
	err := w.logs.run(ctx, "10.0.0.21:2379", "etcd", "--data-dir", "/var/lib/etcd-documented", "--log-level", "warn",
		"--listen-client-urls", urls, "--advertise-client-urls", urls, "--listen-peer-urls", "http://127.0.0.1:2380")
	if err != nil {
		w.Fatal(err)
	}
}

// fetch gets a page from the network of a machine, and what it says.
func (m *machine) fetch(url string) (string, error) {
	ctx, cancel := m.context()
	defer cancel()
	var out string
	err := proc.Await(ctx, func(ctx context.Context) (err error) { // what serves it may just be starting
		out, err = m.Host.Host.Run(ctx, "curl", "-sS", "--fail", "--max-time", "5", url)
		return err
	})
	return out, err
}

// answers pings an address from the network of a machine.
func (m *machine) answers(address string) {
	m.world.Helper()
	ctx, cancel := m.context()
	defer cancel()
	if _, err := m.Host.Host.Run(ctx, "busybox", "ping", "-c", "2", "-W", "3", address); err != nil {
		m.world.Errorf("%s does not answer %s: %v", address, m.Name, err)
	}
}

// addresses are those that a container has on its networks.
func (w *world) addresses(container string) []string {
	w.Helper()
	return strings.Fields(w.rack1.Docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{end}}", container))
}

func reply(rw http.ResponseWriter, code int, body any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(code)
	_ = json.NewEncoder(rw).Encode(body)
}
