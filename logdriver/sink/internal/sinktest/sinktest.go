// Package sinktest is what every sink over TCP or TLS has to pass, told how its
// protocol reads on the collector's side.
package sinktest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
)

// Protocol describes a sink and plays its collector.
type Protocol struct {
	Scheme string // with one that ends in +tls, the collector speaks TLS
	Query  string // parameters that the collector asks for
	Files  map[string][]byte
	New    New
	// Greet does what comes before the first record; nil where that is nothing.
	Greet func(c net.Conn, br *bufio.Reader) error
	// Next reads one message and returns the lines in it and what to answer.
	Next func(br *bufio.Reader) (lines []string, reply []byte, err error)
	// Confirms says that the answer is the acknowledgement. Otherwise the
	// collector's TCP acknowledges.
	Confirms bool

	refuses bool                                    // the collector is to refuse connections
	serve   func(peer *Peer, got func(line string)) // in the place of Next
}

// Meta is a stream with something awkward in every field.
func Meta() *ship.Meta {
	return &ship.Meta{
		Stream: "s1", ContainerID: strings.Repeat("0123456789abcdef", 4), ContainerName: "web-1",
		ImageID: "sha256:feed", ImageName: `reg:5000/a"b]c\d`, Command: "sh -c \"echo \x01\"",
		Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)), Host: "host ü", Tag: "täg/web",
		Attrs: []ship.Attr{
			{Key: "com.docker.compose.project.config_files", Value: "a]b"}, {Key: "com.docker.compose.project.config_hash", Value: "c"},
			{Key: "id", Value: "forged"}, {Key: "team=x", Value: "bad \xff utf-8"},
		},
	}
}

// Fields are what may be lifted out of a line: every type, a name that is there
// twice or is ours in some protocol, and bytes that are not UTF-8.
func Fields() []ship.Field {
	raw := func(key, value string) ship.Field {
		return ship.Field{Key: []byte(key), Value: []byte(value), Raw: true}
	}
	text := func(key, value string) ship.Field { return ship.Field{Key: []byte(key), Value: []byte(value)} }
	return []ship.Field{
		raw("status", "200"), raw("took", "1.5"), raw("ok", "true"), raw("none", "null"), raw("list", `[1,{"a":"b"}]`), raw("big", "12345678901234567890"),
		text("user.name", `jo "ü"`), text("user_name", "x"), text("status", "again"), text("log.record.uid", "forged"), text("id", "forged"),
		text("raw", "\xff"), text("k\xff", ""),
	}
}

// Host is what a sink without files sees of its host.
func Host() sink.Host {
	return sink.Host{Resolver: net.DefaultResolver, Log: slog.New(slog.DiscardHandler)}
}

// Run runs all tests.
func Run(t *testing.T, p Protocol) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, Protocol)
	}{
		{"delivers and acknowledges", testDelivers},
		{"every byte, empty and huge records", testContents},
		{"connection cut", testCut},
		{"connection cut at every byte", testCutEverywhere},
		{"reset with bytes unread", testReset},
		{"slow peer", testSlow},
		{"peer restarts", testRestart},
		{"peer never acknowledges", testSilent},
		{"send ends with its context", testContext},
		{"wait ends with its context", testWaitContext},
		{"close ends send and wait", testClose},
		{"peer closes an idle connection", testIdleClose},
		{"garbage from the peer", testGarbage},
		{"dial", testDial},
		{"use after close", testAfterClose},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, p) })
	}
	if p.secure() {
		runTLS(t, p)
	}
}

func (p Protocol) secure() bool {
	return strings.HasSuffix(p.Scheme, "+tls") || strings.HasSuffix(p.Scheme, "+https")
}

// host puts the files, and those of TLS, where the sink finds them.
func (p Protocol) host(t *testing.T) sink.Host {
	t.Helper()
	h := Host()
	h.Config = t.TempDir()
	for name, data := range p.Files {
		if err := testcert.WriteFile(h.Config, name, data); err != nil {
			t.Fatal(err)
		}
	}
	if p.secure() {
		if err := testcert.WriteFile(h.Config, "ca.pem", certificates(t).ca.PEM); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// sink returns the sink for a collector at addr.
func (p Protocol) sink(t *testing.T, addr string, params ...string) ship.Sink {
	t.Helper()
	if p.Query != "" {
		params = append(params, p.Query)
	}
	if p.secure() {
		params = append(params, "tls-ca=ca.pem")
	}
	return p.open(t, p.host(t), addr, params...)
}

func (p Protocol) open(t *testing.T, host sink.Host, addr string, params ...string) ship.Sink {
	t.Helper()
	return Open(t, p.New, host, p.Scheme+"://"+addr+"?"+strings.Join(params, "&"))
}

// config is how the collector speaks TLS, nil where it does not.
func (p Protocol) config(t *testing.T) *tls.Config {
	t.Helper()
	if !p.secure() {
		return nil
	}
	return &tls.Config{Certificates: []tls.Certificate{certificates(t).server}}
}

// dial connects to a collector whose connections are served by serve, when
// both sides have connected, and then reset unless serve closed them.
func (p Protocol) dial(t *testing.T, serve func(*Peer), params ...string) (ship.Conn, ship.Template) {
	t.Helper()
	conn, tmpl, _ := p.dialClosable(t, serve, params...)
	return conn, tmpl
}

// dialClosable returns also what ends the collector.
func (p Protocol) dialClosable(t *testing.T, serve func(*Peer), params ...string) (ship.Conn, ship.Template, func()) {
	t.Helper()
	dialed, greeted := make(chan struct{}), make(chan struct{}, 1)
	defer close(dialed)
	addr, stop := p.listenAt(t, "127.0.0.1:0", p.config(t), func(peer *Peer) {
		greeted <- struct{}{}
		<-dialed
		serve(peer)
	})
	s := p.sink(t, addr, params...)
	conn := Connect(t, s)
	<-greeted
	return conn, s.Prepare(Meta()), stop
}

// batch makes a batch of n records, numbered from first, of size bytes each.
func batch(conn ship.Conn, tmpl ship.Template, first, n, size int) []byte {
	var dst []byte
	for i := first; i < first+n; i++ {
		dst = conn.Append(dst, tmpl, &ship.Record{Offset: uint64(i), Time: int64(i), Line: []byte(line(i, size))})
	}
	return dst
}

// line is hardly to be compressed, so that a large one fills buffers.
func line(i, size int) string {
	text := fmt.Sprintf("record %d ", i)
	noise := make([]byte, max(0, size-len(text)))
	_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"
	for j, b := range noise {
		noise[j] = digits[b%64]
	}
	return text + string(noise)
}
