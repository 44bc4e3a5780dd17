// Package pluginserver is the front door of both plugins: an HTTP server on
// the unix socket that the engine dials, speaking the engine's plugin
// protocol (JSON POSTs, errors in the body).
//
// It owns what every handler must get right whatever the call: a stale socket
// is removed before binding, bodies are bounded and never empty where the call
// needs one (the engine's retry after a broken connection may carry none), a
// panic in a handler is reported to the caller and ends that call only, and
// stopping is in stages (refuse, drain to a deadline, cancel).
package pluginserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
)

const (
	// maxBody bounds a request. A StartLogging carries the container's whole
	// environment and labels, which the kernel and the engine bound well below.
	maxBody = 16 << 20

	bodyTimeout  = 30 * time.Second // the engine has all of it before it calls
	drainTimeout = 7 * time.Second  // the engine kills ten seconds after SIGTERM, and the plugin has more to end
)

// ErrEmptyBody is the answer to a call that came without the body it needs.
var ErrEmptyBody = errors.New("empty request body (the engine retried a call whose first try was cut off); repeat the operation")

// Server serves plugin calls on one unix socket.
type Server struct {
	mux *http.ServeMux
	log *slog.Logger

	// CutOff is told of each call that came again without its body: the process
	// before this one died before it answered, and the engine takes the call for
	// failed. Set it before serving; nil: nobody is told.
	CutOff func(path string)

	// Streams last as long as their reader likes: they end when serving does,
	// and are not waited for.
	streams    context.Context
	endStreams context.CancelFunc
}

// failure is an error in the shape that each of the engine's clients reads:
// Err for log and network drivers, Error for IPAM drivers.
type failure struct {
	Err   string
	Error string
}

// New returns a server without calls; add them with Handle and HandleStream.
func New(log *slog.Logger) *Server {
	s := &Server{mux: http.NewServeMux(), log: log}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		Fail(w, http.StatusNotFound, fmt.Errorf("unknown call %q", r.URL.Path))
	})
	return s
}

// Refusing returns a server that answers every call with the error.
func Refusing(err error, log *slog.Logger) *Server {
	s := &Server{mux: http.NewServeMux(), log: log}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { Fail(w, http.StatusOK, err) })
	return s
}

// ServeHTTP implements http.Handler, for tests and for embedding.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // a sentinel compared by identity, as net/http does
			panic(p)
		}
		s.log.Error("panic in a plugin call", "call", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		Fail(w, http.StatusInternalServerError, fmt.Errorf("internal error in %s: %v", r.URL.Path, p))
	}()
	if r.Method != http.MethodPost {
		Fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s %s: plugin calls are POSTs", r.Method, r.URL.Path))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// call is what handlers add to their call.
type call struct {
	pairs []any // to what is logged
	after func(answered bool)
}

type callKey struct{}

// Note adds key-value pairs, as of slog, to what is logged of the call whose
// context it is.
func Note(ctx context.Context, pairs ...any) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.pairs = append(c.pairs, pairs...)
	}
}

// After has fn called once the answer to the call whose context it is, where
// that is no error, has gone to the engine; or, with false, cannot go there,
// because the engine has closed the connection.
func After(ctx context.Context, fn func(answered bool)) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.after = fn
	}
}

// Handle adds a call whose request and reply are JSON objects. An error of fn
// goes back as the call's error text with status 200, which is where all of
// the engine's clients look for it.
func Handle[Req, Res any](s *Server, path string, fn func(context.Context, *Req) (*Res, error)) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		req := new(Req)
		if err := decode(w, r, req); err != nil {
			s.log.Warn("refused a plugin call", "call", path, "err", err)
			if errors.Is(err, ErrEmptyBody) && s.CutOff != nil {
				s.CutOff(path)
			}
			Fail(w, http.StatusBadRequest, fmt.Errorf("%s: %w", path, err))
			return
		}
		c := &call{pairs: []any{"call", path}}
		res, err := fn(context.WithValue(r.Context(), callKey{}, c), req)
		if err != nil {
			s.log.Warn("plugin call ended in an error", append(c.pairs, "err", err)...)
			Fail(w, http.StatusOK, err)
			return
		}
		sdk.EncodeResponse(w, res, false)
		if c.after != nil {
			c.after(http.NewResponseController(w).Flush() == nil)
		}
	})
}

// HandleEmpty adds a call that needs no request body; whatever comes is ignored.
func HandleEmpty[Res any](s *Server, path string, fn func(context.Context) (*Res, error)) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		res, err := fn(r.Context())
		if err != nil {
			Fail(w, http.StatusOK, err)
			return
		}
		sdk.EncodeResponse(w, res, false)
	})
}

// HandleStream adds a call whose reply is a stream of bytes. fn writes it;
// every Write is flushed to the engine. An error before the first byte is
// reported like any other, one after it cuts the connection so that the engine
// does not take the stream for complete.
func HandleStream[Req any](s *Server, path string, fn func(context.Context, *Req, io.Writer) error) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		req := new(Req)
		if err := decode(w, r, req); err != nil {
			Fail(w, http.StatusBadRequest, fmt.Errorf("%s: %w", path, err))
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.streams, cancel)()
		out := &flushWriter{w: w, rc: http.NewResponseController(w)}
		c := &call{pairs: []any{"call", path}}
		err := fn(context.WithValue(ctx, callKey{}, c), req, out)
		switch {
		case err == nil:
		case ctx.Err() != nil: // the reader went away, or the plugin stops
		case !out.started:
			s.log.Warn("plugin call ended in an error", append(c.pairs, "err", err)...)
			// The engine decodes a 200 as log frames, so this one has to be an HTTP error.
			Fail(w, http.StatusInternalServerError, err)
		default:
			s.log.Warn("stream of a plugin call broke off", append(c.pairs, "err", err)...)
			panic(http.ErrAbortHandler)
		}
	})
}

// Fail writes err in the shape that the engine's plugin clients read.
func Fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", sdk.DefaultContentTypeV1_1)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(failure{Err: err.Error(), Error: err.Error()})
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	rc := http.NewResponseController(w) // which tests may not have
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(r.Body)
	_ = rc.SetReadDeadline(time.Time{}) // a call takes as long as it does
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return fmt.Errorf("request body is larger than %d bytes", tooBig.Limit)
	case err != nil:
		return fmt.Errorf("read request body: %w", err)
	case len(body) == 0:
		return ErrEmptyBody
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("request body is not the JSON object expected: %w", err)
	}
	return nil
}

// Listen binds the unix socket at path, replacing one that a dead process left.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale socket: %w", err)
	}
	old := syscall.Umask(0o117) // the socket is for root alone from its first moment
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on the plugin socket: %w", err)
	}
	return l, nil
}

// Serve answers calls from l until ctx ends, then stops taking new ones, waits
// for those under way up to a deadline and cancels the rest.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	fresh := &unused{conns: map[net.Conn]bool{}}
	// There is no time by which a connection has to have brought a call: nobody but
	// root can open one, the engine keeps some unused after a burst of calls, and one
	// that was closed just when it came to be used would fail that call.
	srv := &http.Server{ //nolint:gosec // see above
		Handler:     s,
		ConnState:   fresh.note,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve the plugin socket: %w", err)
	case <-ctx.Done():
	}
	s.endStreams()
	defer time.AfterFunc(unusedGrace, fresh.close).Stop()
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer stop()
	err := srv.Shutdown(drain)
	if err != nil {
		s.log.Warn("calls were still under way at the deadline and were cancelled")
		cancel()
		_ = srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		s.log.Warn("the plugin socket ended in an error", "err", err)
	}
	return nil
}

type flushWriter struct {
	w       io.Writer
	rc      *http.ResponseController
	started bool
}

func (f *flushWriter) Write(p []byte) (int, error) {
	f.started = true
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.rc.Flush()
}
