package logdriver

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/elastic"
	"github.com/dockline/dockline/logdriver/sink/forward"
	"github.com/dockline/dockline/logdriver/sink/journald"
	"github.com/dockline/dockline/logdriver/sink/jsonl"
	"github.com/dockline/dockline/logdriver/sink/loki"
	"github.com/dockline/dockline/logdriver/sink/otlp"
	"github.com/dockline/dockline/logdriver/sink/relp"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

type newSink func(*url.URL, sink.Host) (ship.Sink, error)

// sinks maps the schemes of collector URLs to the protocols behind them.
func sinks() map[string]newSink {
	return map[string]newSink{
		"syslog+tcp":          syslog.New,
		"syslog+tls":          syslog.New,
		"syslog+udp":          syslog.New,
		"forward":             forward.New,
		"forward+tls":         forward.New,
		"relp":                relp.New,
		"relp+tls":            relp.New,
		"json+tcp":            jsonl.New,
		"json+tls":            jsonl.New,
		"json+http":           jsonl.NewHTTP,
		"json+https":          jsonl.NewHTTP,
		"otlp+http":           otlp.New,
		"otlp+https":          otlp.New,
		"otlp+grpc":           otlp.NewGRPC,
		"otlp+grpc+tls":       otlp.NewGRPC,
		"loki+http":           loki.New,
		"loki+https":          loki.New,
		"elasticsearch+http":  elastic.New,
		"elasticsearch+https": elastic.New,
		"opensearch+http":     elastic.New,
		"opensearch+https":    elastic.New,
		"journald":            journald.New,
	}
}

func openSink(c discover.Collector, host sink.Host) (ship.Sink, error) {
	known := sinks()
	open := known[c.URL.Scheme]
	if open == nil {
		schemes := slices.Sorted(maps.Keys(known))
		return nil, fmt.Errorf("collector %q: no sink speaks %q, did you mean %q? There are %s",
			c.URL.Redacted(), c.URL.Scheme, options.Nearest(c.URL.Scheme, schemes), strings.Join(schemes, ", "))
	}
	s, err := open(c.URL, host)
	if err != nil {
		return nil, fmt.Errorf("collector %q: %w", c.URL.Redacted(), err)
	}
	return s, nil
}
