// Package sinktest is what every sink over TCP has to pass, told how its
// protocol reads on the collector's side.
package sinktest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
)

// Protocol describes a sink and plays its collector.
type Protocol struct {
	Scheme string
	New    func(*url.URL, ship.Resolver) (ship.Sink, error)
	// Greet answers what the client says first; nil where it says nothing.
	Greet func(c net.Conn, br *bufio.Reader) error
	// Next reads one record and returns its line and what to answer.
	Next func(br *bufio.Reader) (line string, reply []byte, err error)
	// Confirms says that the answer is the acknowledgement. Otherwise the
	// collector's TCP acknowledges.
	Confirms bool
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

// Run runs all tests.
func Run(t *testing.T, p Protocol) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, Protocol)
	}{
		{"delivers and acknowledges", testDelivers},
		{"connection cut", testCut},
		{"reset with bytes unread", testReset},
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
}

// sink returns the sink for a collector at addr.
func (p Protocol) sink(t *testing.T, addr, query string) ship.Sink {
	t.Helper()
	u, err := url.Parse(p.Scheme + "://" + addr + query)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.New(u, net.DefaultResolver)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dial connects to a collector whose connections are served by serve, when
// both sides have connected, and then reset unless serve closed them.
func (p Protocol) dial(t *testing.T, query string, serve func(*Peer)) (ship.Conn, ship.Template) {
	t.Helper()
	dialed := make(chan struct{})
	defer close(dialed)
	s := p.sink(t, p.listen(t, func(peer *Peer) { <-dialed; serve(peer) }), query)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := s.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, s.Prepare(Meta())
}

// batch makes a batch of n records, numbered from first, of size bytes each.
func batch(conn ship.Conn, tmpl ship.Template, first, n, size int) []byte {
	var dst []byte
	for i := first; i < first+n; i++ {
		dst = conn.Append(dst, tmpl, &ship.Record{Offset: uint64(i), Time: int64(i), Line: []byte(line(i, size))})
	}
	return dst
}

func line(i, size int) string {
	text := fmt.Sprintf("record %d ", i)
	return text + strings.Repeat("x", max(0, size-len(text)))
}

// wait waits until want batches are acknowledged, or for the error.
func wait(t *testing.T, conn ship.Conn, want uint64) (acked uint64, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for acked < want && err == nil {
		acked, err = conn.Wait(ctx, acked)
	}
	if ctx.Err() != nil {
		t.Fatalf("nothing comes of waiting: acked %d, %v", acked, err)
	}
	return acked, err
}
