package sinktest

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/logdriver/ship"
)

// open connects to a collector.
func (w *Web) open(addr string, params ...string) (ship.Conn, ship.Template) {
	w.t.Helper()
	s := w.p.protocol().sink(w.t, addr, params...)
	return Connect(w.t, s), s.Prepare(Meta())
}

// send sends batches that follow each other, of 2 records each, from the record
// first on, and returns how many are acknowledged.
func send(t *testing.T, conn ship.Conn, tmpl ship.Template, first, batches, size int) (uint64, error) {
	t.Helper()
	var err error
	for i := 0; i < batches && err == nil; i++ {
		err = conn.Send(t.Context(), batch(conn, tmpl, first+2*i, 2, size))
	}
	acked, waitErr := Wait(t, conn, uint64(batches))
	return acked, errors.Join(err, waitErr)
}

// sendAnew sends on a connection of its own.
func sendAnew(t *testing.T, s ship.Sink, tmpl ship.Template, first, batches, size int) (uint64, error) {
	t.Helper()
	conn, err := s.Dial(t.Context())
	if err != nil {
		return 0, err
	}
	acked, err := send(t, conn, tmpl, first, batches, size)
	return acked, errors.Join(err, conn.Close())
}

func webDelivers(t *testing.T, h HTTP) {
	const batches, records = 40, 25
	name := "connections"
	if h.Play != nil {
		name = "requests"
	}
	for _, params := range []string{name + "=1", name + "=4"} {
		w, addr, _ := h.serve(t)
		conn, tmpl := w.open(addr, params)
		go func() {
			for i := range batches {
				if err := conn.Send(t.Context(), batch(conn, tmpl, i*records, records, 100)); err != nil {
					t.Errorf("send: %v", err)
				}
			}
		}()
		if acked, err := Wait(t, conn, batches); acked != batches || err != nil {
			t.Fatalf("acked %d, %v", acked, err)
		}
		w.exactly(batches*records, 100)
		for i, got := range w.inOrder() {
			if params == name+"=1" && got != id(i) {
				t.Fatalf("record %d is %s: with one connection they are in order", i, got)
			}
		}
		if w.asked() != batches {
			t.Errorf("%d requests", w.asked())
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func webContents(t *testing.T, h HTTP) {
	want := lines()
	w, addr, _ := h.serve(t)
	conn, tmpl := w.open(addr, "max-line=0")
	var dst []byte
	for i, line := range want {
		dst = conn.Append(dst, tmpl, &ship.Record{Offset: uint64(i), Line: []byte(line), Stderr: i%2 == 1, Cut: i%3 == 0})
	}
	if err := conn.Send(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if acked, err := Wait(t, conn, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	for i := range want {
		if got := w.text(id(i)); got != want[i] {
			t.Errorf("record %d reads %.80q, want %.80q", i, got, want[i])
		}
	}
}

// webCutRequest resets the connection after each byte of two requests.
func webCutRequest(t *testing.T, h HTTP) {
	cutAnywhere(t, h, func(w *Web, cut int64) { w.cutIn = cut })
}

// webCutAnswer ends it after each byte of two answers.
func webCutAnswer(t *testing.T, h HTTP) {
	cutAnywhere(t, h, func(w *Web, cut int64) { w.cutOut = cut })
}

// cutAnywhere sends on another connection what was not acknowledged on the one
// that was cut, as ship does, and expects every record, each by one id.
func cutAnywhere(t *testing.T, h HTTP, cut func(w *Web, at int64)) {
	const batches, size = 2, 12
	step := int64(1)
	if h.protocol().secure() {
		step = 61 // two handshakes each
	}
	w, addr, _ := h.serve(t)
	s := h.protocol().sink(t, addr)
	tmpl := s.Prepare(&ship.Meta{Stream: "s1"})
	for at, whole := int64(0), 0; whole < 2; at += step {
		w.forget()
		w.set(func() { cut(w, at) })
		acked, err := sendAnew(t, s, tmpl, 0, batches, size)
		w.want(int(acked)*2, size)
		if err == nil && acked == batches {
			whole++ // it may have gone on by itself on another connection
		} else if whole = 0; err == nil {
			t.Fatalf("cut at %d: acked %d and no error", at, acked)
		}
		if rest := batches - int(acked); rest > 0 {
			w.set(func() { w.cutIn, w.cutOut = -1, -1 })
			if acked, err := sendAnew(t, s, tmpl, 2*int(acked), rest, size); err != nil {
				t.Fatalf("cut at %d, again: acked %d, %v", at, acked, err)
			}
		}
		w.exactly(2*batches, size)
		if at > 1<<20 {
			t.Fatal("there is no end to it")
		}
	}
}

// webKilled kills the collector when it has acknowledged.
func webKilled(t *testing.T, h HTTP) {
	w, addr, stop := h.serve(t)
	conn, tmpl := w.open(addr)
	if acked, err := send(t, conn, tmpl, 0, 1, 100); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	stop()
	if acked, err := send(t, conn, tmpl, 2, 2, 100); acked != 1 || err == nil {
		t.Errorf("acked %d, %v", acked, err)
	}
	w.exactly(2, 100)
}

func webRestart(t *testing.T, h HTTP) {
	w, addr, stop := h.serve(t)
	s := h.protocol().sink(t, addr)
	conn, tmpl := Connect(t, s), s.Prepare(Meta())
	if acked, err := send(t, conn, tmpl, 0, 1, 100); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	stop()
	if _, err := s.Dial(t.Context()); err == nil {
		t.Error("nobody listens: no error")
	}
	w.serveAt(addr)
	again := Connect(t, s)
	if acked, err := send(t, again, tmpl, 2, 1, 100); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	w.exactly(4, 100)
}

func webSilent(t *testing.T, h HTTP) {
	conn, tmpl := h.protocol().impatient(t, 300*time.Millisecond)
	if acked, err := send(t, conn, tmpl, 0, 1, 64<<10); acked != 0 || err == nil {
		t.Errorf("acked %d, %v", acked, err)
	}
}

// webSlow: a collector that takes its time is not given up as long as it goes on.
func webSlow(t *testing.T, h HTTP) {
	one := "connections=1"
	if h.Play != nil {
		one = "requests=1"
	}
	// All of it takes longer than the patience; where the machine has no time for that,
	// it has for what is slower.
	for patience := 400 * time.Millisecond; ; patience *= 4 {
		w, addr, _ := h.serve(t)
		w.done = func([]Got) { time.Sleep(patience / 20) } // this is what is slow about it
		s := h.protocol().sink(t, addr, "timeout="+patience.String(), one)
		acked, err := sendAnew(t, s, s.Prepare(Meta()), 0, 25, 1000)
		if err != nil && patience < 20*time.Second {
			continue
		}
		if acked != 25 || err != nil {
			t.Fatalf("acked %d, %v", acked, err)
		}
		w.exactly(50, 1000)
		return
	}
}

func webGarbage(t *testing.T, h HTTP) {
	p := h.protocol()
	for _, text := range []string{
		"SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "\x00\x01\x02\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		s := p.sink(t, p.listen(t, p.config(t), func(peer *Peer) {
			if _, err := http.ReadRequest(peer.br); err == nil {
				_, _ = peer.Write([]byte(text))
			}
			_ = peer.Close()
		}))
		conn := Connect(t, s)
		if acked, err := send(t, conn, s.Prepare(Meta()), 0, 1, 10); acked != 0 || err == nil {
			t.Errorf("%.20q: acked %d, %v", text, acked, err)
		}
	}
}

// webStatuses: what does not take a batch must not look as if it did.
func webStatuses(t *testing.T, h HTTP) {
	for _, tc := range []struct {
		status, says string
		busy         bool
		after        time.Duration
	}{
		{"429 Too Many Requests\nRetry-After: 7", "429", true, 7 * time.Second},
		{"503 Service Unavailable\nRetry-After: soon", "503", true, 0},
		{"500 Internal Server Error", "500", false, 0},
		{"502 Bad Gateway", "502", false, 0},
		{"301 Moved Permanently\nLocation: http://127.0.0.1:1/", "points elsewhere", false, 30 * time.Second},
		{"401 Unauthorized", "another user", false, 30 * time.Second},
		{"403 Forbidden", "not allowed", false, 30 * time.Second},
		{"404 Not Found", "path", false, 30 * time.Second},
		{"415 Unsupported Media Type", "format", false, 30 * time.Second},
	} {
		w, addr, _ := h.serve(t)
		w.answer = func(*http.Request, []Got) (string, []byte) { return tc.status, []byte("said\r\nby the peer\x00") }
		conn, tmpl := w.open(addr)
		acked, err := send(t, conn, tmpl, 0, 1, 10)
		var asks interface{ RetryAfter() time.Duration }
		if acked != 0 || err == nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "said by the peer") ||
			errors.Is(err, ship.ErrBusy) != tc.busy || !errors.As(err, &asks) || asks.RetryAfter() != tc.after {
			t.Errorf("%.20s: acked %d, %v", tc.status, acked, err)
		}
		if got := refusals(conn); len(got) > 0 {
			t.Errorf("%.20s: refused %v", tc.status, got)
		}
	}
}

// bad reports which of the records are poison.
func bad(records []Got, poison ...string) int {
	return slices.IndexFunc(records, func(g Got) bool { return slices.Contains(poison, g.ID) })
}

// refuse answers a request with poison in it.
func (w *Web) refuse(poison ...string) {
	w.answer = func(_ *http.Request, records []Got) (string, []byte) {
		which := bad(records, poison...)
		if which < 0 {
			return "", nil
		}
		if w.p.Refuse == nil {
			return "400 Bad Request", []byte("this is poison")
		}
		rest := slices.Delete(slices.Clone(records), which, which+1)
		if more := bad(rest, poison...); more >= 0 {
			return "400 Bad Request", []byte("this is poison")
		}
		w.keep(rest)
		return "200 OK", w.p.Refuse(records, which)
	}
}

func webPoison(t *testing.T, h HTTP) {
	const records = 300
	poison := []string{id(0), id(17), id(18), id(299)}
	w, addr, _ := h.serve(t)
	w.refuse(poison...)
	conn, tmpl := w.open(addr)
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, records, 50)); err != nil {
		t.Fatal(err)
	}
	if acked, err := Wait(t, conn, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	var got []string
	for _, r := range refusals(conn) {
		got = append(got, r.ID)
		if r.Records != 1 || r.Class != "invalid" || !strings.Contains(r.Reason, "poison") || r.Container != "web-1" || len(r.Encoded) < 50 {
			t.Errorf("%+v", r)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, poison) {
		t.Errorf("refused are %q", got)
	}
	if w.count() != records-len(poison) {
		t.Errorf("%d records are kept", w.count())
	}
	if again := refusals(conn); len(again) != 0 {
		t.Errorf("told again: %v", again)
	}
}

// webPoisonAlone: a record alone is refused only by a collector that takes others.
func webPoisonAlone(t *testing.T, h HTTP) {
	w, addr, _ := h.serve(t)
	w.refuse(id(4), id(5))
	s := h.protocol().sink(t, addr)
	conn, tmpl := Connect(t, s), s.Prepare(Meta())
	if acked, err := send(t, conn, tmpl, 4, 1, 10); acked != 0 || err == nil || !strings.Contains(err.Error(), "refuses whatever") {
		t.Fatalf("acked %d, %v", acked, err)
	}
	_ = conn.Close()
	conn = Connect(t, s)
	if acked, err := send(t, conn, tmpl, 0, 4, 10); acked != 4 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	if got := refusals(conn); len(got) != 2 || got[0].ID != id(4) {
		t.Errorf("refused: %+v", got)
	}
	if w.count() != 6 {
		t.Errorf("%d records are kept", w.count())
	}
}

// webAllRefused: a collector that refuses whatever it is sent, from one moment to
// the next, costs nothing, however few there are.
func webAllRefused(t *testing.T, h HTTP) {
	w, addr, _ := h.serve(t)
	conn, tmpl := w.open(addr)
	if acked, err := send(t, conn, tmpl, 0, 1, 10); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	w.set(func() {
		w.answer = func(*http.Request, []Got) (string, []byte) { return "400 Bad Request", []byte("no") }
	})
	if acked, err := send(t, conn, tmpl, 2, 50, 10); err == nil || acked > 1 || !strings.Contains(err.Error(), "refuses whatever") {
		t.Errorf("acked %d, %v", acked, err)
	}
	if got := refusals(conn); len(got) > 0 {
		t.Errorf("%d are given up", len(got))
	}
}

func webTooLarge(t *testing.T, h HTTP) {
	w, addr, _ := h.serve(t)
	w.answer = func(r *http.Request, _ []Got) (string, []byte) {
		if r.ContentLength > 20<<10 {
			return "413 Content Too Large", nil
		}
		return "", nil
	}
	s := h.protocol().sink(t, addr)
	before := s.Limits().BatchBytes
	conn, tmpl := Connect(t, s), s.Prepare(Meta())
	dst := batch(conn, tmpl, 0, 100, 1000)
	noise := make([]byte, 30<<10) // what compresses would be small
	_, _ = rand.Read(noise)       // never an error
	dst = conn.Append(dst, tmpl, &ship.Record{Offset: 100, Line: noise})
	if err := conn.Send(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if acked, err := Wait(t, conn, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	w.want(100, 1000)
	if got := refusals(conn); len(got) != 1 || got[0].Class != "too-large" || got[0].ID != id(100) {
		t.Errorf("refused: %d", len(got))
	}
	if after := s.Limits().BatchBytes; after >= before {
		t.Errorf("batches have %d bytes, as before", after)
	}
}

// webBusy: what the collector has no time for is sent again, and only that.
func webBusy(t *testing.T, h HTTP) {
	if h.Busy == nil {
		return // the protocol has no word for it
	}
	w, addr, _ := h.serve(t)
	var sent []int
	w.answer = func(_ *http.Request, records []Got) (string, []byte) {
		sent = append(sent, len(records))
		if len(sent) > 3 {
			return "", nil
		}
		w.keep(records[:len(records)-1])
		return "200 OK", h.Busy(records, len(records)-1)
	}
	conn, tmpl := w.open(addr)
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, 20, 10)); err != nil {
		t.Fatal(err)
	}
	if acked, err := Wait(t, conn, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	w.exactly(20, 10)
	if !slices.Equal(sent, []int{20, 1, 1, 1}) {
		t.Errorf("records by request: %v", sent)
	}
}

func webLogin(t *testing.T, h HTTP) {
	w, addr, _ := h.serve(t)
	const basic, bearer = "Basic dTpwdyA6", "Bearer secret"
	want := ""
	w.answer = func(r *http.Request, _ []Got) (string, []byte) {
		if r.Header.Get("Authorization") != want {
			return "401 Unauthorized", nil
		}
		return "", nil
	}
	p := h.protocol()
	host := p.host(t)
	type login struct{ user, param, file, want, err string }
	var logins []login
	if h.APIKey != "" {
		logins = append(logins, login{param: "api-key-file=secret", file: "key==\n", want: h.APIKey + " key=="}, login{param: "api-key-file=secret", file: "wrong", want: h.APIKey + " key==", err: "401"})
	}
	for _, tc := range append(logins, []login{
		{user: "u:pw%20:@", want: basic},
		{user: "u@", param: "password-file=secret", file: "pw :\n", want: basic},
		{param: "token-file=secret", file: "secret\n", want: bearer},
		{user: "u:wrong@", want: basic, err: "401"},
		{want: basic, err: "401"},
		{param: "token-file=none", err: "no such file"},
		{param: "token-file=secret", file: "\n", err: "no line of text"},
	}...) {
		w.set(func() { want = tc.want })
		if err := testcert.WriteFile(host.Config, "secret", []byte(tc.file)); err != nil {
			t.Fatal(err)
		}
		params := []string{tc.param, h.Query}
		if p.secure() {
			params = append(params, "tls-ca=ca.pem")
		}
		acked, err := tryBatch(t, p.open(t, host, tc.user+addr, params...))
		if (tc.err == "") != (err == nil && acked == 1) || tc.err != "" && (acked != 0 || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s%s: acked %d, %v, want %q", tc.user, tc.param, acked, err, tc.err)
		}
		if err != nil && strings.Contains(err.Error(), "wrong") {
			t.Errorf("a password is told: %v", err)
		}
	}
}

func webClose(t *testing.T, h HTTP) {
	end := make(chan struct{})
	defer close(end)
	p := h.protocol()
	s := p.sink(t, p.listen(t, p.config(t), func(*Peer) { <-end }))
	conn, tmpl := Connect(t, s), s.Prepare(Meta())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if acked, err := conn.Wait(ctx, 0); acked != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acked %d, %v", acked, err)
	}
	errs := make(chan error)
	go func() {
		_, err := conn.Wait(t.Context(), 0)
		errs <- err
	}()
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, 1, 1<<20)); err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-errs; !errors.Is(err, net.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
	if err := conn.Send(t.Context(), batch(conn, tmpl, 1, 1, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
