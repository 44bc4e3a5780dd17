package pool

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/elastic"
	"github.com/dockline/dockline/logdriver/sink/forward"
	"github.com/dockline/dockline/logdriver/sink/gelf"
	"github.com/dockline/dockline/logdriver/sink/journald"
	"github.com/dockline/dockline/logdriver/sink/jsonl"
	"github.com/dockline/dockline/logdriver/sink/kafka"
	"github.com/dockline/dockline/logdriver/sink/loki"
	"github.com/dockline/dockline/logdriver/sink/nats"
	"github.com/dockline/dockline/logdriver/sink/otlp"
	"github.com/dockline/dockline/logdriver/sink/relp"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

type newSink func(*url.URL, sink.Host) (ship.Sink, error)

// newCluster opens one of the clusters.
type newCluster func([]*url.URL, sink.Host) (ship.Sink, error)

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
		"gelf+tcp":            gelf.New,
		"gelf+tls":            gelf.New,
		"gelf+udp":            gelf.New,
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

// clusters are the protocols whose collectors form one cluster of their own: a
// pool of them is that cluster, and each of them is a way into it.
func clusters() map[string]newCluster {
	return map[string]newCluster{
		"kafka":     kafka.New,
		"kafka+tls": kafka.New,
		"nats":      nats.New,
		"nats+tls":  nats.New,
	}
}

// Schemes are those that a collector's URL may have, those of clusters last.
func Schemes() []string {
	return append(slices.Sorted(maps.Keys(sinks())), slices.Sorted(maps.Keys(clusters()))...)
}

// openSink opens a collector, or a cluster by the addresses of its members.
func openSink(urls []*url.URL, host sink.Host) (ship.Sink, error) {
	u := urls[0]
	open := sinks()[u.Scheme]
	if cluster := clusters()[u.Scheme]; cluster != nil {
		open = func(*url.URL, sink.Host) (ship.Sink, error) { return cluster(urls, host) }
	}
	if open == nil {
		schemes := Schemes()
		return nil, fmt.Errorf("collector %q: no sink speaks %q, did you mean %s? There are %s",
			redact.URL(u), u.Scheme, meant(u.Scheme, schemes), strings.Join(schemes, ", "))
	}
	s, err := open(u, host)
	if err != nil {
		return nil, fmt.Errorf("collector %q: %w", redact.URL(u), err)
	}
	return s, nil
}

// meant names the schemes that have an unknown one as a part, such as gelf+tcp has
// gelf, or else the one that is written most like it.
func meant(scheme string, schemes []string) string {
	var all []string
	for _, s := range schemes {
		if slices.Contains(strings.Split(s, "+"), strings.ToLower(scheme)) {
			all = append(all, strconv.Quote(s))
		}
	}
	if len(all) == 0 {
		return strconv.Quote(options.Nearest(scheme, schemes))
	}
	return strings.Join(all, " or ")
}
