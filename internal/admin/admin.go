// Package admin is the window through which an operator looks into a plugin: an
// HTTP server on a unix socket that only root can reach. It serves Prometheus
// metrics, health and readiness, a status in JSON, and whatever calls a plugin
// adds: GETs, which change nothing, and POSTs. The metrics, health and readiness
// can be had at a loopback address too, see Settings.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/dockline/dockline/internal/build"
)

const (
	headerTimeout = 10 * time.Second
	maxHeader     = 16 << 10 // bytes
	maxBody       = 1 << 20  // bytes of what an operator sends
	maxScrapes    = 4        // that are answered at a time
	// maxOperators is how many connections operators have at a time, those whose
	// answers take long among them; those that idle are closed.
	maxOperators = 256
)

// Server answers on /metrics, /healthz, /readyz and the paths that are added.
type Server struct {
	mux    *http.ServeMux
	log    *slog.Logger
	health []check
	ready  []check
}

// check is a condition; err says what is wrong and what to do.
type check struct {
	name string
	fn   func() error
}

// New returns a server of the collectors' metrics and the process's own.
func New(log *slog.Logger, metrics ...prometheus.Collector) *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(metrics...)
	s := &Server{mux: http.NewServeMux(), log: log}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // what can be read is worth more than nothing
		MaxRequestsInFlight: maxScrapes,
	}))
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.health) })
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.health, s.ready) })
	return s
}

// Healthy adds a condition without which the plugin does not do its work, and
// is best restarted. It is called by several goroutines, and returns soon.
func (s *Server) Healthy(name string, fn func() error) { s.health = append(s.health, check{name, fn}) }

// Ready adds a condition without which containers had better not be started here.
func (s *Server) Ready(name string, fn func() error) { s.ready = append(s.ready, check{name, fn}) }

// answer says of each condition whether it is met, with status 503 if one is not.
func answer(w http.ResponseWriter, lists ...[]check) {
	var b strings.Builder
	code := http.StatusOK
	for _, list := range lists {
		for _, c := range list {
			if err := c.fn(); err != nil {
				code = http.StatusServiceUnavailable
				fmt.Fprintf(&b, "no: %s: %v\n", c.name, err)
			} else {
				fmt.Fprintf(&b, "ok: %s\n", c.name)
			}
		}
	}
	if code == http.StatusOK {
		b.WriteString("ok\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(b.String()))
}

// Profile adds the profiles of the Go runtime below /debug/pprof/. They show
// what is in the process's memory, and are therefore on root's socket only.
func (s *Server) Profile() {
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// Error is an answer with an HTTP status of its own, other than 503.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Handle adds a path that answers with what fn returns, as JSON. The request's
// context ends when the client goes away or the plugin stops.
func (s *Server) Handle(path string, fn func(*http.Request) (any, error)) {
	s.handle(http.MethodGet, path, fn)
}

// HandleChange adds a path that changes something, and is therefore asked for
// with a POST. It answers as those of Handle do.
func (s *Server) HandleChange(path string, fn func(*http.Request) (any, error)) {
	s.handle(http.MethodPost, path, fn)
}

// answered is the header by which a call that was refused is told from one that
// there is not.
const answered = "Dockline-Answer"

// Version is the answer of /version.
type Version struct {
	Version string    `json:"version"`
	Commit  string    `json:"commit"`
	Date    string    `json:"date"` // of the commit
	Go      string    `json:"go"`
	Arch    string    `json:"arch"`
	PID     int       `json:"pid"` // as the plugin sees it
	Started time.Time `json:"started"`
}

// HandleProcess adds /version, and /log with the lines that the plugin said lately.
func (s *Server) HandleProcess(lines func() []string) {
	v := Version{Version: build.Version, Commit: build.Commit, Date: build.Date, Go: runtime.Version(), Arch: runtime.GOARCH, PID: os.Getpid(), Started: time.Now().UTC()}
	s.Handle("/version", func(*http.Request) (any, error) { return v, nil })
	s.Handle("/log", func(*http.Request) (any, error) { return lines(), nil })
}

// Refuse answers with why whatever is asked for that nothing else is added for. It
// is for a plugin that does not do its work, and will not before somebody acts.
func (s *Server) Refuse(why func() error) {
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(answered, "refused")
		http.Error(w, why().Error(), http.StatusInternalServerError)
	})
}

func (s *Server) handle(method, path string, fn func(*http.Request) (any, error)) {
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		v, err := fn(r)
		if err != nil {
			code := http.StatusServiceUnavailable
			if own := new(Error); errors.As(err, &own) {
				code = own.Code
			}
			w.Header().Set(answered, "refused")
			http.Error(w, err.Error(), code)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			s.log.Debug("an admin client went away", "path", path, "err", err)
		}
	})
}

// ServeHTTP implements http.Handler, for tests.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve answers from l until ctx ends. Nothing under way is waited for. An
// answer may take as long as it likes: a drain and a profile do.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, netutil.LimitListener(l, maxOperators), &http.Server{Handler: s, IdleTimeout: idleTimeout})
}

func (s *Server) serve(ctx context.Context, l net.Listener, srv *http.Server) error {
	srv.ReadHeaderTimeout, srv.MaxHeaderBytes = headerTimeout, maxHeader
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
