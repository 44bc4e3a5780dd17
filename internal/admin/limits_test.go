package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/pluginserver"
)

// doors are all of a plugin's servers, as it runs them.
type doors struct {
	plugin, admin string // sockets
	metrics       string // host:port
}

type echo struct{ Text string }

func open(t *testing.T) doors {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	d := doors{plugin: filepath.Join(dir, "p.sock"), admin: filepath.Join(dir, "a.sock")}
	engine := pluginserver.New(log)
	pluginserver.Handle(engine, "/Echo", func(_ context.Context, e *echo) (*echo, error) { return e, nil })
	window := New(log)
	window.Handle("/status", func(*http.Request) (any, error) { return "well", nil })
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); all.Wait() })
	listen := func(path string) net.Listener {
		l, err := pluginserver.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	pl, al := listen(d.plugin), listen(d.admin)
	ml, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.metrics = ml.Addr().String()
	all.Go(func() { _ = engine.Serve(ctx, pl) })
	all.Go(func() { _ = window.Serve(ctx, al) })
	all.Go(func() { window.ServeMetrics(ctx, ml) })
	return d
}

// call is one of the engine's.
func (d doors) call(t *testing.T, text string) error {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.plugin)
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	body := strings.NewReader(fmt.Sprintf(`{"Text":%q}`, text))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://p/Echo", body)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && !bytes.Contains(answer, []byte(text)) {
		err = fmt.Errorf("answer %.100q", answer)
	}
	return err
}

func (d doors) each() map[string][2]string {
	return map[string][2]string{"plugin": {"unix", d.plugin}, "admin": {"unix", d.admin}, "metrics": {"tcp", d.metrics}}
}

// Connections on which nothing is ever asked hold up neither the engine nor an
// operator; of the metrics, there are as many as there may be.
func TestIdleConnections(t *testing.T) {
	d := open(t)
	const each = 1000
	for name, at := range d.each() {
		n := each
		if name == "admin" {
			n = maxOperators / 2 // root's alone; whoever has all of them waits for those that idle
		}
		for range n {
			c, err := net.Dial(at[0], at[1])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			defer c.Close()
		}
	}
	for i := range 20 {
		if err := d.call(t, fmt.Sprint("call ", i)); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := Get(t.Context(), d.admin, "/status", &b); err != nil || !strings.Contains(b.String(), "well") {
		t.Errorf("%q, %v", &b, err)
	}
}

// Who sends its request byte by byte is cut off at the doors of others than the
// engine, whose connections may idle as long as it likes before they bring a call;
// and the engine is answered meanwhile, also on such a connection.
func TestSlowClients(t *testing.T) {
	t.Parallel() // it lasts as long as the servers' patience
	d := open(t)
	var all sync.WaitGroup
	unused, err := net.Dial("unix", d.plugin)
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()
	for name, at := range d.each() {
		if name == "plugin" {
			continue
		}
		c, err := net.Dial(at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		all.Go(func() { // a header that never ends
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ended:
					return
				case <-tick.C:
					_, _ = io.WriteString(c, "A")
				}
			}
		})
		all.Go(func() {
			defer close(ended)
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, c); err != nil && isTimeout(err) {
				t.Errorf("%s waits for ever", name)
			}
		})
	}
	if err := d.call(t, "meanwhile"); err != nil {
		t.Error(err)
	}
	all.Wait() // as long as a connection without a call lives there
	_ = unused.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(unused, "POST /Echo HTTP/1.1\r\nHost: p\r\nContent-Length: 15\r\n\r\n{\"Text\":\"late\"}"); err != nil {
		t.Error(err)
	}
	answer := make([]byte, 512)
	if n, err := unused.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200") {
		t.Errorf("a connection that was not used for a while: %q, %v", answer[:n], err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// What is larger than may be is refused before it is kept.
func TestLargeRequests(t *testing.T) {
	d := open(t)
	for name, at := range d.each() {
		size := 2 << 20
		if name == "plugin" {
			size = 17 << 20
		}
		for what, text := range map[string]string{
			"header": "GET /metrics HTTP/1.1\r\nHost: localhost\r\nA: " + strings.Repeat("a", 2<<20) + "\r\n\r\n",
			"body":   fmt.Sprintf("POST /Echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size) + strings.Repeat("b", size),
		} {
			c, err := net.Dial(at[0], at[1])
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(c, text) // it may be cut off
			answer, err := io.ReadAll(io.LimitReader(c, 1<<10))
			if isTimeout(err) || strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				t.Errorf("%s takes a large %s: %.60q, %v", name, what, answer, err)
			}
			_ = c.Close()
		}
	}
	if err := d.call(t, "after"); err != nil {
		t.Error(err)
	}
}

// Who speaks anything but HTTP is cut off, and nobody else notices.
func TestGarbage(t *testing.T) {
	d := open(t)
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 64<<10)
	_, _ = random.Read(noise) // never fails
	for name, at := range d.each() {
		for what, text := range map[string]string{
			"noise": string(noise), "lines": strings.Repeat("\r\n", 1<<16), "zeros": strings.Repeat("\x00", 1<<16), "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(noise[:500]),
			"HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + string(noise[:100]), "no version": "GET /metrics\r\n\r\n", "no host": "GET /metrics HTTP/1.1\r\n\r\n",
			"a length that is none": "POST /Echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
			"two lengths":           "POST /Echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
			"a chunk that is none":  "POST /Echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
			"no JSON":               fmt.Sprintf("POST /Echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n%s", noise[:1000]),
			"deep JSON":             fmt.Sprintf("POST /Echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", 1<<20, strings.Repeat("[", 1<<20)),
		} {
			c, err := net.Dial(at[0], at[1])
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(c, text) // it may be cut off
			if half, ok := c.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			answer, err := io.ReadAll(io.LimitReader(c, 1<<20))
			if isTimeout(err) || strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				t.Errorf("%s: %s: %.60q, %v", name, what, answer, err)
			}
			_ = c.Close()
		}
	}
	if err := d.call(t, "after"); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if err := Get(t.Context(), d.admin, "/status", &b); err != nil {
		t.Error(err)
	}
}

// A page in this host's browser reaches a loopback address by a name of its own.
func TestMetricsForThisHostAlone(t *testing.T) {
	d := open(t)
	for host, want := range map[string]int{d.metrics: 200, "localhost:1": 200, "[::1]:9": 200, "evil.example": 421, "127.0.0.1.evil.example:80": 421, "10.0.0.1": 421} {
		for _, path := range []string{"/metrics", "/healthz"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.metrics+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s of %s: %s, want %d", path, host, res.Status, want)
			}
		}
	}
	for _, path := range []string{"/status", "/version", "/log", "/debug/pprof/", "/debug/pprof/heap", "/metrics/../status"} {
		res, err := http.Get("http://" + d.metrics + path) //nolint:noctx // the test ends it
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode < 400 {
			t.Errorf("%s is served beside the metrics: %s", path, res.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
