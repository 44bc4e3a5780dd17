package hosts_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

// addressOf runs a name server in the host's network for which every name has the
// address that is stored in what it returns, for a second.
func addressOf(t *testing.T, h *hosts.Host, addr string) *atomic.Value {
	t.Helper()
	var conn net.PacketConn
	h.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(addr, "53"))
		return err
	})
	at := new(atomic.Value)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		if name := q.Question[0]; name.Qtype == dns.TypeA {
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(at.Load().(string))}}
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
	return at
}

// Collectors that a file of the host and a name in the DNS tell of are followed
// while containers write: nothing is lost, repeated or out of order by it.
func TestCollectorsAreFollowed(t *testing.T) {
	t.Parallel()
	h := hosts.Open(t).Host(t, "a", debian.Bookworm)
	check, port := collector.NewChecker(), "0"
	var urls []string
	addrs := []string{"127.0.1.1", "127.0.1.2", "127.0.1.3"}
	for _, addr := range addrs {
		h.Do(func() error {
			s, err := collector.Start(collector.Options{Name: addr, Proto: "relp", Addr: net.JoinHostPort(addr, port), Each: check.Record})
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = s.Reset() })
			_, port, err = net.SplitHostPort(s.Addr())
			urls = append(urls, s.URL())
			return err
		})
	}
	put := func(path, content string) { // as all do that keep such files
		t.Helper()
		h.Run("sh", "-c", `mkdir -p "$(dirname "$1")" && printf "$2" >"$1.new" && mv "$1.new" "$1"`, "-", path, content)
	}
	name := addressOf(t, h, "127.0.0.1")
	name.Store(addrs[0])
	put("/etc/resolv.conf", `nameserver 127.0.0.1\n`)
	const list = "/etc/dockline/collectors"
	put(list, "# ours\n"+urls[0]+"\n")
	h.Install(driver, build(t, driver))

	containers := map[string]string{"by-file": "file://" + list, "by-name": "dns+relp://logs.test:" + port}
	t.Cleanup(func() { _ = h.Engine.Remove(context.Background(), "by-file", "by-name") })
	for container, source := range containers {
		h.Docker("run", "-d", "--network", "none", "--name", container, "--log-driver", driver,
			"--log-opt", "collectors="+source, harness.Image, "workload", "tally", "workload", "seq", "-n", "100000000", "-rate", "800")
	}
	// come waits until some more records have come from both to a collector.
	come := func(addr string) {
		t.Helper()
		ctx, cancel := context.WithTimeoutCause(t.Context(), awaitTime, errors.New("not both come to "+addr))
		defer cancel()
		before := map[string]uint64{}
		for c := range containers {
			before[c] = check.Where(c)[addr]
		}
		if err := check.Wait(ctx, func() bool {
			for c := range containers {
				if check.Where(c)[addr] < before[c]+100 {
					return false
				}
			}
			return true
		}); err != nil {
			t.Fatalf("%v\n%s", err, h.Engine.LogTail(10))
		}
	}
	come(addrs[0])
	put(list, urls[1])
	name.Store(addrs[1])
	come(addrs[1])
	put(list, strings.Replace(urls[2], "relp", "rlep", 1)) // nobody follows a mistake
	come(addrs[1])
	command := h.Docker("info", "-f", "{{.DockerRootDir}}") + "/plugins/" + h.Docker("plugin", "inspect", "-f", "{{.Id}}", driver) + "/rootfs/dockline-log"
	if said := h.Run(command, "status"); !strings.Contains(said, `"source": "file://`+list) || !strings.Contains(said, `no sink speaks \"rlep\"`) {
		t.Errorf("status does not say what is wrong with the file:\n%s", said)
	}
	put(list, urls[2])
	name.Store(addrs[2])
	come(addrs[2])

	ctx, cancel := context.WithTimeoutCause(t.Context(), awaitTime, errors.New("not everything has come"))
	defer cancel()
	for container := range containers {
		h.Docker("stop", "-t", "60", container)
		if code, err := h.Engine.Wait(ctx, container); err != nil || code != "0" {
			t.Fatalf("%s ended with code %s: %v", container, code, err)
		}
		wrote, err := h.Engine.Tally(ctx, container)
		if err != nil {
			t.Fatal(err)
		}
		check.Expect(container, wrote)
	}
	if err := check.Wait(ctx, check.Complete); err != nil {
		t.Error(err)
	}
	rep := check.Report()
	// Each collector had some of both, and the plugin knows.
	for container := range containers {
		said := h.Run(command, "where", container, "-since", "1h")
		for _, addr := range addrs {
			if !strings.Contains(said, `"collector": "`+addr) {
				t.Errorf("%s holds records of %s; the plugin says:\n%s", addr, container, said)
			}
		}
	}
	if t.Logf("lost=%d duplicated=%d reordered=%d of %d, at %v", rep.Lost, rep.Duplicated, rep.Reordered, rep.Expected, rep.Collectors); rep.Duplicated > 0 || len(rep.Problems) > 0 {
		t.Errorf("%d came twice; %v", rep.Duplicated, rep.Problems)
	}
}
