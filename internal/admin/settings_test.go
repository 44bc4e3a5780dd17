package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestParseSettings(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		want Settings
		says string // in the error
	}{
		"nothing":             {nil, Settings{}, ""},
		"off":                 {[]string{"METRICS", "off", "METRICS_PER_CONTAINER", "off", "PPROF", "off"}, Settings{}, ""},
		"all":                 {[]string{"METRICS", "127.0.0.1:9741", "METRICS_PER_CONTAINER", "on", "PPROF", "on"}, Settings{"tcp", "127.0.0.1:9741", true, true}, ""},
		"another loopback":    {[]string{"METRICS", "127.0.0.7:1"}, Settings{Network: "tcp", Address: "127.0.0.7:1"}, ""},
		"IPv6":                {[]string{"METRICS", "[::1]:9741"}, Settings{Network: "tcp", Address: "[::1]:9741"}, ""},
		"localhost":           {[]string{"METRICS", "localhost:9741"}, Settings{Network: "tcp", Address: "127.0.0.1:9741"}, ""},
		"a socket":            {[]string{"METRICS", "unix:///run//x.sock"}, Settings{Network: "unix", Address: "/run/x.sock"}, ""},
		"every address":       {[]string{"METRICS", ":9741"}, Settings{}, `setting METRICS=":9741": "" is no loopback address`},
		"every address, said": {[]string{"METRICS", "0.0.0.0:9741"}, Settings{}, `"0.0.0.0" is no loopback address`},
		"every IPv6 address":  {[]string{"METRICS", "[::]:9741"}, Settings{}, `"::" is no loopback address`},
		"one of the LAN":      {[]string{"METRICS", "192.168.1.7:9741"}, Settings{}, "served to this host only"},
		"a name":              {[]string{"METRICS", "metrics.example.com:9741"}, Settings{}, "no loopback address"},
		"only a port":         {[]string{"METRICS", "9741"}, Settings{}, "not one of off, an address such as 127.0.0.1:9741"},
		"no port":             {[]string{"METRICS", "127.0.0.1:"}, Settings{}, `"" is no port`},
		"port 0":              {[]string{"METRICS", "127.0.0.1:0"}, Settings{}, `"0" is no port from 1 to 65535`},
		"a port too high":     {[]string{"METRICS", "127.0.0.1:70000"}, Settings{}, `"70000" is no port`},
		"a socket, nowhere":   {[]string{"METRICS", "unix://x.sock"}, Settings{}, "whole path"},
		"a folder":            {[]string{"METRICS", "unix:///run/"}, Settings{}, "whole path"},
		"perhaps":             {[]string{"METRICS_PER_CONTAINER", "yes"}, Settings{}, `setting METRICS_PER_CONTAINER="yes": neither on nor off`},
		"a profile, perhaps":  {[]string{"PPROF", "1"}, Settings{}, `setting PPROF="1": neither on nor off`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSettings(env(c.env...))
			switch {
			case c.says == "" && (err != nil || got != c.want):
				t.Errorf("got %+v, %v", got, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %v, want an error with %q", err, c.says)
			}
		})
	}
}

// serve serves the metrics of a server with conditions at a place.
func serve(t *testing.T, l net.Listener) *http.Client {
	t.Helper()
	s := New(slog.New(slog.DiscardHandler))
	s.Healthy("alive", func() error { return nil })
	s.Ready("ready", func() error { return errors.New("not yet") })
	s.Handle("/status", func(*http.Request) (any, error) { return "everything", nil })
	s.HandleChange("/change", func(*http.Request) (any, error) { return "done", nil })
	s.Profile()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.ServeMetrics(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	network, address := l.Addr().Network(), l.Addr().String()
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}}
}

// Only what is for everybody on the host is served, and only to look at.
func TestServeMetrics(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := serve(t, l)
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/metrics", "", 200, "go_goroutines"},
		{"HEAD", "/metrics", "", 200, ""},
		{"GET", "/healthz", "", 200, "ok: alive\nok\n"},
		{"GET", "/readyz", "", 503, "ok: alive\nno: ready: not yet\n"},
		{"POST", "/metrics", "", 405, ""},
		{"POST", "/metrics", "too much", 405, ""},
		{"GET", "/status", "", 404, ""},
		{"POST", "/change", "", 404, ""},
		{"GET", "/debug/pprof/", "", 404, ""},
		{"GET", "/", "", 404, ""},
	} {
		t.Run(c.method+c.path, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://localhost"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("%d %s, %v; want %d with %q", res.StatusCode, body, err, c.status, c.says)
			}
		})
	}
}

func TestServeMetricsRefusesLongHeaders(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	go func() { // it may be cut off while it writes
		_, _ = fmt.Fprintf(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	}()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "431") {
		t.Errorf("%q, %v", line, err)
	}
}

// More than maxReaders wait for one to go, and hold up nobody for ever.
func TestServeMetricsBoundsReaders(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := serve(t, l)
	var idle []net.Conn
	for range maxReaders {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
		idle = append(idle, c)
	}
	answered := make(chan error, 1)
	go func() {
		res, err := client.Get("http://localhost/healthz")
		if err == nil {
			err = res.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("one too many was answered: %v", err)
	case <-time.After(100 * time.Millisecond): // only that nothing happens can be seen
	}
	if err := errors.Join(idle[0].Close(), <-answered); err != nil {
		t.Error(err)
	}
}

func TestServeMetricsOnASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.sock")
	s, err := ParseSettings(env("METRICS", "unix://"+path))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	l := s.Open(log)
	if l == nil {
		t.Fatal("it cannot be opened")
	}
	client := serve(t, l)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others may use it: %v, %v", info.Mode(), err)
	}
	res, err := client.Get("http://localhost/healthz")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", res, err)
	}
	_ = res.Body.Close()
}

// A place that cannot be had is no reason to do without the plugin.
func TestOpenWhereAnotherIs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var said strings.Builder
	s := Settings{Network: "tcp", Address: l.Addr().String()}
	if s.Open(slog.New(slog.NewTextHandler(&said, nil))) != nil || !strings.Contains(said.String(), "is another program, or the other plugin, there?") {
		t.Errorf("%s", said.String())
	}
	if (Settings{}).Open(slog.New(slog.DiscardHandler)) != nil {
		t.Error("something is served though nobody asked for it")
	}
}
