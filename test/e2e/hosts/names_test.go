package hosts_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

// nameServer runs a name server in the host's network that has one answer.
func nameServer(t *testing.T, h *hosts.Host, addr, answer string) {
	t.Helper()
	var conn net.PacketConn
	h.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(addr, "53"))
		return err
	})
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		if q.Question[0].Name != "logs.test." {
			a.Rcode = dns.RcodeNameError
		} else if q.Question[0].Qtype == dns.TypeA {
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "logs.test.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(answer)}}
		}
		_ = w.WriteMsg(a)
	})}
	started, done := make(chan struct{}), make(chan error, 1)
	server.NotifyStartedFunc = func() { close(started) }
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(), <-done); err != nil {
			t.Error(err)
		}
	})
}

// A collector's name is looked up at every connection, with what the host's
// resolv.conf and hosts say then: files that are replaced, and behind a link too.
func TestNamesAreTheHosts(t *testing.T) {
	t.Parallel()
	for _, suite := range []debian.Suite{debian.Bookworm, debian.Sid} {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			testNames(t, suite)
		})
	}
}

func testNames(t *testing.T, suite debian.Suite) {
	lab := hosts.Open(t)
	h := lab.Host(t, "a", suite)
	put := func(path, content string) { // as all do that keep these files
		t.Helper()
		h.Run("sh", "-c", `printf "$2" >"$1.new" && mv "$1.new" "$1"`, "-", path, content)
	}
	nameServer(t, h, "127.0.0.1", "127.0.1.1")
	nameServer(t, h, "127.0.0.2", "127.0.1.2")
	put("/etc/hosts", `127.0.0.1 localhost\n`)
	put("/etc/resolv.conf", `nameserver 127.0.0.1\n`)
	h.Install(driver, build(t, driver))

	check, port := collector.NewChecker(), "0"
	listen := func(addr string) (s *collector.Server) {
		h.Do(func() (err error) {
			s, err = collector.Start(collector.Options{Name: addr, Proto: "relp", Addr: net.JoinHostPort(addr, port), Each: check.Record})
			return err
		})
		t.Cleanup(func() { _ = s.Reset() })
		return s
	}
	at := listen("127.0.1.1")
	_, port, _ = net.SplitHostPort(at.Addr())
	h.Docker("run", "-d", "--network", "none", "--name", "speaker", "--stop-signal", "KILL", "--log-driver", driver,
		"--log-opt", "collectors=relp://logs.test:"+port, harness.Image, "sh", "-c", "while :; do echo here; sleep 0.05; done")
	t.Cleanup(func() { _ = h.Engine.Remove(context.Background(), "speaker") })
	// expect waits until records come to a collector. The one before it goes.
	expect := func(addr string) {
		t.Helper()
		if at.Name() != addr {
			next := listen(addr)
			if err := at.Reset(); err != nil {
				t.Fatal(err)
			}
			at = next
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), awaitTime, errors.New("nothing comes to "+addr))
		defer cancel()
		before := check.Where("speaker")[addr]
		if err := check.Wait(ctx, func() bool { return check.Where("speaker")[addr] > before }); err != nil {
			t.Fatalf("%v\n%s", err, h.Engine.LogTail(10))
		}
	}
	expect("127.0.1.1")
	put("/etc/resolv.conf", `nameserver 127.0.0.2\n`)
	expect("127.0.1.2")
	put("/etc/hosts", `127.0.0.1 localhost\n127.0.1.3 logs.test\n`)
	expect("127.0.1.3")
	put("/etc/hosts", `127.0.0.1 localhost\n`)

	// A link, whose target the plugin cannot see: that is said, with a way out.
	h.Run("mkdir", "-p", "/run/systemd/resolve")
	put("/run/systemd/resolve/resolv.conf", `nameserver 127.0.0.1\n`)
	h.Run("ln", "-sf", "../run/systemd/resolve/resolv.conf", "/etc/resolv.conf")
	h.Docker("plugin", "disable", "-f", driver)
	h.Docker("plugin", "enable", driver)
	expect("127.0.1.1")
	if log, err := os.ReadFile(h.Engine.Log); err != nil || !strings.Contains(string(log), "/run/systemd/resolve/resolv.conf") {
		t.Errorf("the engine's log does not say which file cannot be seen (%v)", err)
	}
	h.Docker("plugin", "disable", "-f", driver)
	h.Docker("plugin", "set", driver, "resolv.source=/run/systemd/resolve")
	h.Docker("plugin", "enable", driver)
	expect("127.0.1.1")
	put("/run/systemd/resolve/resolv.conf", `nameserver 127.0.0.2\n`)
	expect("127.0.1.2")
}
