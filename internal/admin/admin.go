// Package admin is the window through which an operator looks into a plugin: an
// HTTP server on a unix socket that only root can reach. It serves Prometheus
// metrics, a status in JSON, and whatever calls a plugin adds: GETs, which change
// nothing, and POSTs.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server answers on /metrics and on the paths that are added.
type Server struct {
	mux *http.ServeMux
	log *slog.Logger
}

// New returns a server of the collectors' metrics and the process's own.
func New(log *slog.Logger, metrics ...prometheus.Collector) *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(metrics...)
	s := &Server{mux: http.NewServeMux(), log: log}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}))
	s.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	return s
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

func (s *Server) handle(method, path string, fn func(*http.Request) (any, error)) {
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		v, err := fn(r)
		if err != nil {
			code := http.StatusServiceUnavailable
			if own := new(Error); errors.As(err, &own) {
				code = own.Code
			}
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

// Serve answers from l until ctx ends. Nothing under way is waited for.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin socket: %w", err)
	}
	return nil
}
