package sinktest

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/ship"
)

// Got is one record as a collector sees it.
type Got struct{ ID, Line string }

// HTTP describes a sink over HTTP and plays its collector.
type HTTP struct {
	Scheme string // with one that ends in +https, the collector speaks TLS
	Query  string // parameters that the collector asks for
	New    New
	// Take reads the records of a request, and refuses what is not to the letter
	// of the protocol. It returns the answer's body.
	Take func(r *http.Request, body []byte) ([]Got, []byte, error)
	// Busy returns the answer to a request of which one record is to be sent
	// again, nil where the protocol knows no such thing; Refuse one of which one
	// record is refused.
	Busy, Refuse func(records []Got, which int) []byte
	// Final500 says that the protocol has 500 mean that a request is refused, too.
	Final500 bool
	// OK is the status of a request that is taken, 200 unless given.
	OK string
	// Play answers the requests on a connection until it ends, where that is not
	// HTTP/1.1. What answer returns is as in HTTP: a status, with headers behind a
	// newline, and a body.
	Play func(conn net.Conn, answer Answer)
	// APIKey is the scheme of Authorization that keys are shown by, "" for none.
	APIKey string
}

// Answer has a collector take a request.
type Answer func(r *http.Request, body []byte) (status string, answer []byte)

// Web is a collector over HTTP, whose ways a test changes.
type Web struct {
	p HTTP
	t *testing.T

	mu       sync.Mutex // guards what follows
	kept     map[string]string
	order    []string // ids, without those that came again
	requests int
	conns    int
	cutIn    int64                                                 // bytes that the first connection may send, -1 for all
	cutOut   int64                                                 // and receive
	answer   func(r *http.Request, records []Got) (string, []byte) // what comes after HTTP/1.1, nil to take all
	done     func(records []Got)                                   // called when records are kept and not acknowledged yet
}

func (h HTTP) protocol() Protocol {
	// A connection beyond the first may be given up before anybody has greeted.
	return Protocol{Scheme: h.Scheme, Query: h.Query, New: h.New, Confirms: true, refuses: true}
}

// serve starts a collector and returns it, its address and what ends it.
func (h HTTP) serve(t *testing.T) (*Web, string, func()) {
	t.Helper()
	w := &Web{p: h, t: t, kept: map[string]string{}, cutIn: -1, cutOut: -1}
	addr, stop := w.serveAt(testport.Of(t)) // kept, for who stops it and comes back
	return w, addr, stop
}

func (w *Web) serveAt(addr string) (string, func()) {
	p := w.p.protocol()
	var peers sync.Map
	at, stop := p.listenAt(w.t, addr, p.config(w.t), func(peer *Peer) {
		peers.Store(peer, nil)
		defer peers.Delete(peer)
		w.mu.Lock()
		w.conns++
		in, out := w.cutIn, w.cutOut
		if w.conns > 1 {
			in, out = -1, -1
		}
		w.mu.Unlock()
		peer.meter.limited, peer.meter.left = in >= 0, in
		w.talk(peer, out)
	})
	end := func() {
		peers.Range(func(peer, _ any) bool { _ = peer.(*Peer).tcp.Close(); return true })
		stop()
	}
	w.t.Cleanup(end)
	return at, end
}

// talk answers the requests of one connection.
func (w *Web) talk(peer *Peer, out int64) {
	if w.p.Play != nil {
		w.p.Play(&cutOff{peer, out}, w.take)
		return
	}
	for {
		r, err := http.ReadRequest(peer.br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		reply := reply(w.take(r, body))
		if out >= 0 && int64(len(reply)) > out {
			_, _ = peer.Write(reply[:out])
			_ = peer.tcp.CloseWrite()
			return
		}
		out = max(out-int64(len(reply)), min(out, 0)) // -1 stays
		if _, err := peer.Write(reply); err != nil {
			return
		}
	}
}

// cutOff ends what is sent after so many bytes.
type cutOff struct {
	*Peer
	left int64 // -1 for all
}

func (c *cutOff) Write(p []byte) (int, error) {
	if c.left < 0 || int64(len(p)) <= c.left {
		n, err := c.Peer.Write(p)
		c.left = max(c.left-int64(n), min(c.left, 0))
		return n, err
	}
	n, err := c.Peer.Write(p[:c.left])
	c.left = 0
	return n, errors.Join(err, c.tcp.CloseWrite(), io.ErrShortWrite)
}

// take keeps the records of a request and returns the answer.
func (w *Web) take(r *http.Request, body []byte) (string, []byte) {
	records, answer, err := w.p.read(r, body)
	if err != nil {
		w.t.Errorf("a request is not as it has to be: %v", err)
		return "400 Bad Request", []byte(err.Error())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests++
	if w.answer != nil {
		if status, text := w.answer(r, records); status != "" {
			return status, text
		}
	}
	w.keep(records)
	if w.done != nil {
		w.done(records)
	}
	return cmp.Or(w.p.OK, "200 OK"), answer
}

// read takes a request apart.
func (h HTTP) read(r *http.Request, body []byte) ([]Got, []byte, error) {
	if r.Header.Get("Content-Encoding") == "gzip" {
		zip, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, nil, err
		}
		if body, err = io.ReadAll(zip); err != nil {
			return nil, nil, err
		}
	}
	return h.Take(r, body)
}

func (w *Web) keep(records []Got) {
	for _, g := range records {
		if old, again := w.kept[g.ID]; again && old != g.Line {
			w.t.Errorf("%s reads %.60q, and then %.60q", g.ID, old, g.Line)
		} else if !again {
			w.order = append(w.order, g.ID)
		}
		w.kept[g.ID] = g.Line
	}
}

func reply(status string, body []byte) []byte {
	status, headers, _ := strings.Cut(status, "\n")
	if headers != "" {
		headers += "\r\n"
	}
	return fmt.Appendf(nil, "HTTP/1.1 %s\r\n%sContent-Length: %s\r\n\r\n%s", status, headers, strconv.Itoa(len(body)), body)
}

func (w *Web) set(change func()) { w.mu.Lock(); defer w.mu.Unlock(); change() }

// forget makes it as it was.
func (w *Web) forget() {
	w.set(func() {
		w.kept, w.order, w.requests, w.conns, w.answer, w.done = map[string]string{}, nil, 0, 0, nil, nil
	})
}

// want looks for the first n records of batch.
func (w *Web) want(n, size int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range n {
		if got := w.kept[id(i)]; got != line(i, size) {
			w.t.Errorf("record %d of %d acknowledged ones reads %.60q", i, n, got)
			return
		}
	}
}

// exactly is want, and that there is nothing else.
func (w *Web) exactly(n, size int) {
	w.t.Helper()
	w.want(n, size)
	w.set(func() {
		if len(w.kept) != n {
			w.t.Errorf("%d records, want %d: %.300q", len(w.kept), n, slices.Sorted(maps.Keys(w.kept)))
		}
	})
}

// count is how many records there are. A request of a connection that the
// client has given up may still be under way: all is read under the lock.
func (w *Web) count() (n int) { w.set(func() { n = len(w.kept) }); return n }

func (w *Web) asked() (n int) { w.set(func() { n = w.requests }); return n }

func (w *Web) inOrder() (ids []string) { w.set(func() { ids = slices.Clone(w.order) }); return ids }

func (w *Web) text(id string) (s string) { w.set(func() { s = w.kept[id] }); return s }

// id is that of a record of batch.
func id(i int) string { return fmt.Sprintf("s1-%016x", i) }

// refusals returns what a connection says of those.
func refusals(conn ship.Conn) []ship.Refusal { return conn.(ship.Refuser).Refused() }

// RunHTTP runs all tests.
func RunHTTP(t *testing.T, h HTTP) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, HTTP)
	}{
		{"delivers and acknowledges", webDelivers},
		{"every byte, empty and huge records", webContents},
		{"request cut at every byte", webCutRequest},
		{"answer cut at every byte", webCutAnswer},
		{"killed after the acknowledgement", webKilled},
		{"peer restarts", webRestart},
		{"peer never answers", webSilent},
		{"slow peer", webSlow},
		{"poison among records", webPoison},
		{"poison alone", webPoisonAlone},
		{"all is refused", webAllRefused},
		{"all is refused from the middle of a batch", webRefusesSuddenly},
		{"all is refused, and it is a few", webFew},
		{"nothing but poison", webOnlyPoison},
		{"fails at some records", webFailing},
		{"fails at all records", webOutage},
		{"too large a body", webTooLarge},
		{"busy with some", webBusy},
		{"login", webLogin},
		{"close", webClose},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, h) })
	}
	if h.Play == nil {
		t.Run("answers that are none", func(t *testing.T) { webGarbage(t, h) })
		t.Run("statuses", func(t *testing.T) { webStatuses(t, h) })
	}
	p := h.protocol()
	t.Run("dial", func(t *testing.T) { testDial(t, p) })
	if p.secure() {
		p.Next, p.serve = h.next(), h.serveTLS()
		runTLS(t, p)
	}
}

// serveTLS is the same, where requests are not HTTP/1.1's.
func (h HTTP) serveTLS() func(peer *Peer, got func(line string)) {
	if h.Play == nil {
		return nil
	}
	return func(peer *Peer, got func(line string)) {
		h.Play(peer, func(r *http.Request, body []byte) (string, []byte) {
			records, answer, err := h.read(r, body)
			if err != nil {
				return "400 Bad Request", []byte(err.Error())
			}
			for _, g := range records {
				got(g.Line)
			}
			return "200 OK", answer
		})
	}
}

// next is the collector as TLS's tests have it.
func (h HTTP) next() func(*bufio.Reader) ([]string, []byte, error) {
	return func(br *bufio.Reader) ([]string, []byte, error) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return nil, nil, err
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, nil, err
		}
		records, answer, err := h.read(r, body)
		if err != nil {
			return nil, nil, errors.Join(err, io.EOF)
		}
		lines := make([]string, len(records))
		for i := range records {
			lines[i] = records[i].Line
		}
		return lines, reply(cmp.Or(h.OK, "200 OK"), answer), nil
	}
}
