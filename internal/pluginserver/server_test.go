package pluginserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/testleak"
)

func TestMain(m *testing.M) { testleak.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

type message struct{ Text string }

func newServer() *Server {
	s := New(quiet)
	Handle(s, "/Echo", func(_ context.Context, m *message) (*message, error) {
		if m.Text == "panic" {
			panic("a bug")
		}
		if m.Text == "" {
			return nil, errors.New("no text")
		}
		return m, nil
	})
	HandleEmpty(s, "/Ping", func(context.Context) (*message, error) { return &message{"pong"}, nil })
	HandleStream(s, "/Stream", func(_ context.Context, m *message, w io.Writer) error {
		if m.Text == "early" {
			return errors.New("nothing there")
		}
		if _, err := io.WriteString(w, "first"); err != nil {
			return err
		}
		if m.Text == "late" {
			return errors.New("broke off")
		}
		return nil
	})
	return s
}

func TestReplies(t *testing.T) {
	s := newServer()
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"a call", "POST", "/Echo", `{"Text":"hi"}`, 200, `{"Text":"hi"}`},
		{"an error has status 200 and both names", "POST", "/Echo", `{}`, 200, `{"Err":"no text","Error":"no text"}`},
		{"no body", "POST", "/Echo", "", 400, "empty request body"},
		{"no body where none is needed", "POST", "/Ping", "", 200, "pong"},
		{"not JSON", "POST", "/Echo", "{", 400, "not the JSON object"},
		{"too large", "POST", "/Echo", strings.Repeat("x", maxBody+1), 400, "larger than"},
		{"a panic ends the call only", "POST", "/Echo", `{"Text":"panic"}`, 500, "internal error"},
		{"unknown", "POST", "/Nope", "{}", 404, "unknown call"},
		{"not a POST", "GET", "/Ping", "", 405, "POST"},
		{"a stream", "POST", "/Stream", `{}`, 200, "first"},
		{"a stream that cannot begin", "POST", "/Stream", `{"Text":"early"}`, 500, "nothing there"},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
	}
}

func TestAnErrorIsLoggedWithWhatItIsAbout(t *testing.T) {
	var out bytes.Buffer
	s := New(slog.New(slog.NewTextHandler(&out, nil)))
	Handle(s, "/Fail", func(ctx context.Context, m *message) (*message, error) {
		Note(ctx, "endpoint", m.Text)
		return nil, errors.New("no")
	})
	s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/Fail", strings.NewReader(`{"Text":"e1"}`)))
	if !strings.Contains(out.String(), "call=/Fail endpoint=e1 err=no") {
		t.Errorf("logged %s", out.String())
	}
	Note(t.Context(), "nobody", "listens")
}

// dial returns a client of the socket.
func dial(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

func TestAStreamThatBreaksOffIsNotComplete(t *testing.T) {
	srv := httptest.NewServer(newServer())
	defer srv.Close()
	res, err := srv.Client().Post(srv.URL+"/Stream", "", bytes.NewReader([]byte(`{"Text":"late"}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("read %q to a clean end", b)
	}
}

func TestServeReplacesAStaleSocketAndDrains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugins", "x.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a dead process left
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("the socket is open to others: %v %v", info.Mode(), err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	s := newServer()
	Handle(s, "/Slow", func(context.Context, *message) (*message, error) {
		close(entered)
		<-leave
		return &message{"done"}, nil
	})
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	answer := make(chan string, 1)
	go func() {
		res, err := dial(path).Post("http://x/Slow", "", strings.NewReader(`{}`))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		answer <- string(b)
	}()
	<-entered
	stop()
	close(leave)
	if got := <-answer; !strings.Contains(got, "done") {
		t.Errorf("the call under way ended with %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if res, err := dial(path).Post("http://x/Ping", "", nil); err == nil {
		_ = res.Body.Close()
		t.Error("a stopped server answered")
	}
}

// A connection that never brought a call is not waited for.
func TestAnUnusedConnectionHoldsNothingUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- newServer().Serve(ctx, l) }()
	unused, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unused.Close() }()
	used, err := net.Dial("unix", path) // accepted after the other
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = used.Close() }()
	if _, err := io.WriteString(used, "POST /Ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := used.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := unused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection ended in %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
