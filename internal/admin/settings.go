package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/netutil"

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

// Listen binds the place for the metrics; nil if there is none.
func (s Settings) Listen() (net.Listener, error) {
	var l net.Listener
	var err error
	switch s.Network {
	case "":
		return nil, nil //nolint:nilnil // nobody wants it
	case "unix":
		l, err = pluginserver.Listen(s.Address)
	default:
		l, err = net.Listen(s.Network, s.Address)
	}
	if err != nil {
		return nil, fmt.Errorf("setting METRICS: %w: is another program, or another plugin, there? Choose another address", err)
	}
	return l, nil
}

const (
	maxReaders   = 32 // connections at a time
	readTimeout  = 10 * time.Second
	writeTimeout = time.Minute
	idleTimeout  = 2 * time.Minute // longer than scrapes are apart, as a rule
)

// ServeMetrics answers from l on /metrics, /healthz and /readyz alone, until ctx
// ends. Whoever asks slowly, or too much, is cut off.
func (s *Server) ServeMetrics(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		mux.Handle("GET "+path, s.mux)
	}
	s.log.Info("metrics are served", "address", l.Addr().String())
	return s.serve(ctx, netutil.LimitListener(l, maxReaders), &http.Server{
		Handler:     http.MaxBytesHandler(mux, 0),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
	})
}
