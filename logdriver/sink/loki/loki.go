// Package loki sends records to Grafana Loki's push API, in protobuf and snappy.
//
//	loki+http://host[:3100][/path][?tenant=NAME]    loki+https://host
//
// Parameters, beside those of all sinks over HTTP:
//
//	tenant   the header X-Scope-OrgID
//	labels   which values are labels, parted by + (in a URL: %2B) or spaces, of
//	         names of fields and of attributes; "host+container_name" unless given
//
// Labels are few, for Loki keeps each combination of their values apart. All else
// is structured metadata, which Loki 3 takes unless told not to: id (the record's
// id), source (stdout or stderr), level, cut (true where the record is one piece
// of a longer line), the fields, the attributes that were asked for, and what was
// lifted out of the line; where that is too much, the rest is behind the line as
// name="value".
//
// A line that is not UTF-8 has U+FFFD there, and up to 32 KiB of such a line are
// exact in line_base64.
//
// The streams of a container are in order, with one request at a time. What is
// sent again Loki drops while it has the same in its newest block.
package loki

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	defaultLabels = "host container_name"
	// defaultMaxLine is below Loki's max_line_size, 256 KB.
	defaultMaxLine = 240 << 10
	// maxLabels is Loki's max_label_names_per_series.
	maxLabels = 15
)

type collector struct {
	*web.Collector
	labels []string
}

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	c, err := web.Parse(u, host, web.Spec{
		Names: []string{"loki"}, Port: "3100", Path: "/loki/api/v1/push", Params: []string{"tenant", "labels"}, MaxLine: defaultMaxLine,
		Connections: 1, Bytes: 1 << 20, Records: 8192, Packed: true,
	})
	if err != nil {
		return nil, err
	}
	if tenant, given := c.Params["tenant"]; given {
		if tenant == "" || strings.ContainsFunc(tenant, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, &options.ValueError{What: wire.ParamKind, Key: "tenant", Value: tenant, Err: fmt.Errorf("not the name of a tenant")}
		}
		c.Header.Set("X-Scope-OrgID", tenant)
	}
	text, given := c.Params["labels"]
	if !given {
		text = defaultLabels
	}
	labels := strings.FieldsFunc(text, func(r rune) bool { return r == '+' || r == ' ' })
	if len(labels) == 0 || len(labels) > maxLabels || slices.Contains(labels, "id") || slices.Contains(labels, "container_id") {
		return nil, &options.ValueError{What: wire.ParamKind, Key: "labels", Value: text, Err: fmt.Errorf("not 1 to %d names of values that many records share", maxLabels)}
	}
	c.Format = requests{}
	return &collector{c, labels}, nil
}

func (c *collector) Prepare(m *ship.Meta) ship.Template { return newTemplate(m, c.labels) }

// Limits: max-line is a bound of the line as it is sent, see Measure.
func (c *collector) Limits() ship.Limits {
	l := c.Collector.Limits()
	l.MessageBytes = c.MaxLine
	return l
}
