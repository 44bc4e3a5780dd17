package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/dockline/dockline/internal/loopback"
	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/pluginserver"
)

// Settings are what an operator says of the window (docker plugin set).
type Settings struct {
	// Network and Address are where the metrics can be had beside the admin
	// socket: tcp or unix; "" is nowhere.
	Network, Address string
	// PerContainer has metrics of each container served.
	PerContainer bool
	// Profiles has the Go runtime's profiles served, on the admin socket.
	Profiles bool
}

// ParseSettings reads METRICS, METRICS_PER_CONTAINER and PPROF.
func ParseSettings(getenv func(string) string) (Settings, error) {
	var s Settings
	var err error
	if s.Network, s.Address, err = parseAddress(getenv("METRICS")); err != nil {
		return s, &options.ValueError{What: "setting", Key: "METRICS", Value: getenv("METRICS"), Err: err}
	}
	for key, to := range map[string]*bool{"METRICS_PER_CONTAINER": &s.PerContainer, "PPROF": &s.Profiles} {
		switch v := getenv(key); v {
		case "", "off":
		case "on":
			*to = true
		default:
			return s, &options.ValueError{What: "setting", Key: key, Value: v, Err: errors.New("neither on nor off")}
		}
	}
	return s, nil
}

// parseAddress takes 127.0.0.1:9741, [::1]:9741, localhost:9741, unix:///path and off.
func parseAddress(v string) (network, address string, err error) {
	if v == "" || v == "off" {
		return "", "", nil
	}
	if path, ok := strings.CutPrefix(v, "unix://"); ok {
		if !filepath.IsAbs(path) || strings.HasSuffix(path, "/") {
			return "", "", errors.New("unix:// is followed by the socket's whole path, such as unix:///run/docker/plugins/metrics.sock")
		}
		return "unix", filepath.Clean(path), nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", "", errors.New("not one of off, an address such as 127.0.0.1:9741, unix:///PATH")
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.Unmap().IsLoopback() {
		return "", "", fmt.Errorf("%q is no loopback address: whoever reaches the metrics may read them, so they are served to this host only, at 127.0.0.1, [::1] or a unix socket; put a proxy that asks who it is in front of it, or let an agent on this host read them", host)
	}
	to, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil || to.Port() == 0 {
		return "", "", fmt.Errorf("%q is no port from 1 to 65535", port)
	}
	return "tcp", to.String(), nil
}

// Open binds the place for the metrics. It returns nil if there is none, or if it
// cannot be had, which is logged: containers matter more than who watches them.
func (s Settings) Open(log *slog.Logger) net.Listener {
	var l net.Listener
	var err error
	switch s.Network {
	case "":
		return nil
	case "unix":
		l, err = pluginserver.Listen(s.Address)
	default:
		l, err = net.Listen(s.Network, s.Address)
	}
	if err != nil {
		log.Error("metrics are not served where METRICS says, but on the admin socket only; is another program, or the other plugin, there? Choose another address", "address", s.Address, "err", err)
		return nil
	}
	return l
}

const (
	maxReaders   = 32 // connections at a time
	readTimeout  = 10 * time.Second
	writeTimeout = time.Minute
	idleTimeout  = 2 * time.Minute // longer than scrapes are apart, as a rule
)

// ServeMetrics answers from l on /metrics, /healthz and /readyz alone, until ctx
// ends. Whoever asks slowly, or too much, is cut off. What ends it early is logged:
// the plugin goes on without.
func (s *Server) ServeMetrics(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		mux.Handle("GET "+path, s.mux)
	}
	s.log.Info("metrics are served", "address", l.Addr().String())
	var handler http.Handler = mux
	if l.Addr().Network() != "unix" {
		handler = forThisHost(mux)
	}
	err := s.serve(ctx, netutil.LimitListener(l, maxReaders), &http.Server{
		Handler:     http.MaxBytesHandler(handler, 0),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
	})
	if err != nil {
		s.log.Error("metrics are served on the admin socket only from now on", "err", err)
	}
}

// forThisHost answers who asked for this host alone: a page in a browser of this
// host can have any name resolve to a loopback address, and then read what it gets
// from there as its own.
func forThisHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "" && !loopback.Is(r.Host) {
			http.Error(w, "the metrics are asked for by a loopback address or as localhost, not by another name; a proxy before them has to send such a Host", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}
