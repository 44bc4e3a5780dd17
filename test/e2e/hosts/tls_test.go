package hosts_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/proc"
)

// secured puts TLS before a collector, which then asks for certificates that the
// authority has issued, and returns the address.
func secured(t *testing.T, h *hosts.Host, ca *testcert.Authority, behind string) string {
	t.Helper()
	pair, err := ca.Issue(time.Hour*24, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	var ln net.Listener
	h.Do(func() (err error) {
		ln, err = tls.Listen("tcp", "127.0.0.1:0", config)
		return err
	})
	var running sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); running.Wait() })
	running.Go(func() {
		for {
			front, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { pass(h, front.(*tls.Conn), behind) })
		}
	})
	return ln.Addr().String()
}

// pass copies both ways until one side ends.
func pass(h *hosts.Host, front *tls.Conn, behind string) {
	defer func() { _ = front.Close() }()
	if front.Handshake() != nil {
		return
	}
	var back net.Conn
	if h.Host.Do(func() (err error) {
		back, err = net.Dial("tcp", behind)
		return err
	}) != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(back, front); _ = back.Close() })
	both.Go(func() { _, _ = io.Copy(front, back); _ = front.Close() })
	both.Wait()
}

// A collector under TLS is given files of the host; where one of them is wrong
// the engine's log says so, and replacing it is enough.
func TestCertificatesAreTheHosts(t *testing.T) {
	t.Parallel()
	h := hosts.Open(t).Host(t, "a", debian.Bookworm)
	check, containers := collector.NewChecker(), []string{"by-relp", "by-json"}
	ca, stranger := authority(t), authority(t)
	put := func(from *testcert.Authority) {
		t.Helper()
		pair, err := from.Issue(time.Hour*24, "client")
		if err != nil {
			t.Fatal(err)
		}
		h.Run("sh", "-c", `umask 077; mkdir -p /etc/dockline && cd /etc/dockline && printf %s "$1" >ca.pem && printf %s "$2" >client.pem && printf %s "$3" >client.key`,
			"-", string(ca.PEM), string(pair.Cert), string(pair.Key))
	}
	put(stranger)
	h.Install(driver, build(t, driver))
	t.Cleanup(func() { _ = h.Engine.Remove(context.Background(), containers...) })
	for i, proto := range []string{"relp", "json+tcp"} {
		var addr string
		h.Do(func() error {
			s, err := collector.Start(collector.Options{Name: proto, Proto: proto, Each: check.Record})
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = s.Reset() })
			addr = s.Addr()
			return nil
		})
		scheme := map[string]string{"relp": "relp+tls", "json+tcp": "json+tls"}[proto]
		url := scheme + "://" + secured(t, h, ca, addr) + "?tls-ca=/etc/dockline/ca.pem&tls-cert=/etc/dockline/client.pem&tls-key=/etc/dockline/client.key"
		h.Docker("run", "-d", "--network", "none", "--name", containers[i], "--stop-signal", "KILL", "--log-driver", driver,
			"--log-opt", "collectors="+url, harness.Image, "workload", "tally", "workload", "seq", "-n", "2000", "-rate", "1000")
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), awaitTime, errors.New("not everything has come"))
	defer cancel()
	if err := proc.Await(ctx, func(context.Context) error {
		log := h.Engine.LogTail(1000)
		if strings.Count(log, "refused our certificate")+strings.Count(log, "asks for a certificate and ended") < len(containers) {
			return errors.New("the engine's log does not say that the certificate is refused")
		}
		return nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, h.Engine.LogTail(10))
	}
	for _, container := range containers {
		if n := check.Count(container); n > 0 {
			t.Errorf("%s: %d records came with a wrong certificate", container, n)
		}
	}
	put(ca)
	for _, container := range containers {
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
		t.Errorf("%v\n%s", err, h.Engine.LogTail(10))
	}
	if rep := check.Report(); len(rep.Problems) > 0 {
		t.Errorf("%v", rep.Problems)
	}
}

func authority(t *testing.T) *testcert.Authority {
	t.Helper()
	a, err := testcert.New(filepath.Base(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	return a
}
