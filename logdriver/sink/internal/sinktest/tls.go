package sinktest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/logdriver/ship"
)

// pki is what both sides of the tests trust and show.
type pki struct {
	ca, other                        *testcert.Authority
	server, foreign, expired, misfit tls.Certificate // of the collector
	client, stranger                 testcert.Pair   // ours; the other authority's
}

var makePKI = sync.OnceValues(func() (*pki, error) {
	var errs [8]error
	var p pki
	p.ca, errs[0] = testcert.New("dockline test")
	p.other, errs[1] = testcert.New("another")
	issue := func(a *testcert.Authority, valid time.Duration, name string) (tls.Certificate, error) {
		pair, err := a.Issue(valid, name)
		if err != nil {
			return tls.Certificate{}, err
		}
		return pair.TLS()
	}
	p.server, errs[2] = issue(p.ca, 24*time.Hour, "127.0.0.1")
	p.foreign, errs[3] = issue(p.other, 24*time.Hour, "127.0.0.1")
	p.expired, errs[4] = issue(p.ca, time.Minute, "127.0.0.1")
	p.misfit, errs[5] = issue(p.ca, 24*time.Hour, "collector.example")
	p.client, errs[6] = p.ca.Issue(24*time.Hour, "client")
	p.stranger, errs[7] = p.other.Issue(24*time.Hour, "client")
	return &p, errors.Join(errs[:]...)
})

func certificates(t *testing.T) *pki {
	t.Helper()
	p, err := makePKI()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func runTLS(t *testing.T, p Protocol) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, Protocol)
	}{
		{"wrong certificate of the collector", testWrongServer},
		{"wrong certificate of ours", testWrongClient},
		{"right certificate of ours", testClient},
		{"replaced certificates", testReplaced},
		{"peer does not speak TLS", testPlain},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, p) })
	}
}

func testWrongServer(t *testing.T, p Protocol) {
	all := certificates(t)
	p.refuses = true
	for _, tc := range []struct {
		name, params, err string
		config            *tls.Config
	}{
		{name: "another authority's", err: "did not issue", config: &tls.Config{Certificates: []tls.Certificate{all.foreign}}},
		{name: "expired", err: "not valid now", config: &tls.Config{Certificates: []tls.Certificate{all.expired}}},
		{name: "for another name", err: `not for "127.0.0.1"`, config: &tls.Config{Certificates: []tls.Certificate{all.misfit}}},
		{name: "old TLS", err: "TLS versions", config: &tls.Config{Certificates: []tls.Certificate{all.server}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}},
		{name: "too old a TLS", err: "TLS versions", params: "tls-min=1.3", config: &tls.Config{Certificates: []tls.Certificate{all.server}, MaxVersion: tls.VersionTLS12}},
		{name: "by the name that it is for", params: "tls-name=collector.example", config: &tls.Config{Certificates: []tls.Certificate{all.misfit}}},
		{name: "unchecked", params: "tls-insecure=on", config: &tls.Config{Certificates: []tls.Certificate{all.foreign}}},
	} {
		addr := p.listen(t, tc.config, func(peer *Peer) { _, _ = io.Copy(io.Discard, peer.br) })
		params := []string{"tls-ca=ca.pem", tc.params, p.Query}
		if tc.params == "tls-insecure=on" {
			params[0] = ""
		}
		var said bytes.Buffer
		host := p.host(t)
		host.Log = slog.New(slog.NewTextHandler(&said, nil))
		conn, err := p.open(t, host, addr, params...).Dial(t.Context())
		if unchecked := tc.params == "tls-insecure=on"; strings.Contains(said.String(), "is not checked") != unchecked {
			t.Errorf("%s: the log says %q", tc.name, said.String())
		}
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// clientConfig is a collector's that asks for a certificate of ours.
func clientConfig(t *testing.T, version uint16) *tls.Config {
	all := certificates(t)
	return &tls.Config{
		Certificates: []tls.Certificate{all.server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: all.ca.Pool(), MaxVersion: version,
	}
}

// testWrongClient: in TLS 1.3 a client is connected before its certificate is
// looked at. Nothing that it sends then may count.
func testWrongClient(t *testing.T, p Protocol) {
	p.refuses = true
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tc := range []struct{ name, params, err string }{
			{"none", "", "asks for a certificate"},
			{"another authority's", "tls-cert=client.pem&tls-key=client.key", "refused our certificate"},
		} {
			addr := p.listen(t, clientConfig(t, version), func(*Peer) { t.Error("a connection is served") })
			host := p.host(t)
			if err := certificates(t).stranger.Write(host.Config, "client"); err != nil {
				t.Fatal(err)
			}
			acked, err := tryBatch(t, p.open(t, host, addr, "tls-ca=ca.pem", tc.params, p.Query))
			if acked != 0 || !refused(err, tc.err) {
				t.Errorf("TLS %x, %s: acked %d, %v, want %q", version, tc.name, acked, err, tc.err)
			}
		}
	}
}

// refused reports whether an error says so. Where the collector's kernel resets
// the connection, the alert may get lost.
func refused(err error, want string) bool {
	return err != nil && (strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "asks for a certificate and ended"))
}

func tryBatch(t *testing.T, s ship.Sink) (uint64, error) {
	t.Helper()
	conn, err := s.Dial(t.Context())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	sendErr := conn.Send(t.Context(), batch(conn, s.Prepare(Meta()), 0, 1, 10))
	acked, err := Wait(t, conn, 1)
	return acked, errors.Join(err, sendErr)
}

func testClient(t *testing.T, p Protocol) {
	patience := 2 * time.Second // without tickets, half of it passes before anything counts
	if p.Confirms {
		patience = 20 * time.Second
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tickets := range []bool{true, false} {
			config := clientConfig(t, version)
			config.SessionTicketsDisabled = !tickets
			addr := p.listen(t, config, func(peer *Peer) { p.receive(peer, -1, func(string) {}) })
			host := p.host(t)
			if err := certificates(t).client.Write(host.Config, "client"); err != nil {
				t.Fatal(err)
			}
			s := p.open(t, host, addr, "tls-ca=ca.pem", "tls-cert=client.pem", "tls-key=client.key", "timeout="+patience.String(), p.Query)
			if acked, err := tryBatch(t, s); acked != 1 || err != nil {
				t.Errorf("TLS %x, tickets %v: acked %d, %v", version, tickets, acked, err)
			}
		}
	}
}

// testReplaced puts the right files in the place of wrong ones and of none.
func testReplaced(t *testing.T, p Protocol) {
	all := certificates(t)
	p.refuses = true
	addr := p.listen(t, clientConfig(t, tls.VersionTLS13), func(peer *Peer) { p.receive(peer, -1, func(string) {}) })
	host := p.host(t)
	s := p.open(t, host, addr, "tls-ca=ca.pem", "tls-cert=client.pem", "tls-key=client.key", p.Query)
	for _, step := range []struct {
		name string
		put  func() error
		err  string
	}{
		{"no certificate", func() error { return nil }, "client.pem: no such file"},
		{"no certificate in it", func() error {
			return (testcert.Pair{Cert: []byte("nothing"), Key: all.client.Key}).Write(host.Config, "client")
		}, "tls-cert client.pem"},
		{"key of another", func() error {
			return (testcert.Pair{Cert: all.client.Cert, Key: all.stranger.Key}).Write(host.Config, "client")
		}, "does not match"},
		{"a stranger's", func() error { return all.stranger.Write(host.Config, "client") }, "refused our certificate"},
		{"the right one", func() error { return all.client.Write(host.Config, "client") }, ""},
		{"another authority", func() error { return testcert.WriteFile(host.Config, "ca.pem", all.other.PEM) }, "did not issue"},
		{"no authority in it", func() error { return testcert.WriteFile(host.Config, "ca.pem", nil) }, "holds no certificate"},
		{"no authority", func() error { return os.Remove(filepath.Join(host.Config, "ca.pem")) }, "tls-ca: ca.pem: no such file"},
	} {
		if err := step.put(); err != nil {
			t.Fatal(err)
		}
		acked, err := tryBatch(t, s)
		if step.err == "" && (err != nil || acked != 1) || step.err != "" && (acked != 0 || !refused(err, step.err)) {
			t.Errorf("%s: acked %d, %v, want %q", step.name, acked, err, step.err)
		}
	}
}

func testPlain(t *testing.T, p Protocol) {
	p.Greet, p.refuses = nil, true
	addr := p.listen(t, nil, func(peer *Peer) {
		_, _ = peer.Write([]byte("HELLO, this is no TLS\r\n"))
		_, _ = io.Copy(io.Discard, peer.br)
	})
	if _, err := p.sink(t, addr).Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("%v", err)
	}
}
