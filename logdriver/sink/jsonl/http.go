package jsonl

import (
	"bytes"
	"net/url"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/jsonline"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// overHTTP is a collector that takes requests with many objects each.
type overHTTP struct{ *web.Collector }

// NewHTTP returns the sink that u describes, over HTTP.
func NewHTTP(u *url.URL, host sink.Host) (ship.Sink, error) {
	c, err := web.Parse(u, host, web.Spec{
		Names: []string{"json"}, Path: "/", Params: []string{"format", "max-message"}, Connections: 1, Bytes: 1 << 20, Records: 8192,
	})
	if err != nil {
		return nil, err
	}
	format, err := c.Choice("format", "ndjson", "array")
	if err != nil {
		return nil, err
	}
	c.Format = lines{}
	if format == "array" {
		c.Format = array{}
	}
	return &overHTTP{c}, nil
}

func (c *overHTTP) Prepare(m *ship.Meta) ship.Template {
	return &line{Template: jsonline.New(m), group: web.Group{Stream: m.Stream, Container: m.ContainerName}}
}

// line is a template of objects with a newline behind each.
type line struct {
	*jsonline.Template
	group web.Group
}

func (l *line) Group() *web.Group { return &l.group }

func (l *line) Append(dst []byte, r *ship.Record) []byte {
	return append(l.Template.Append(dst, r), '\n')
}

// lines is one object a line (github.com/ndjson/ndjson-spec).
type lines struct{}

func (lines) Type() string { return "application/x-ndjson" }

func (lines) Body(dst, text []byte, records []web.Record) []byte {
	return web.AppendText(dst, text, records)
}

// Judge: no collector says more than that it took the request, in words of its own.
// A page is for people, who may have to log in there.
func (lines) Judge(answer []byte, _ int) (v web.Verdict, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(answer), []byte("<")) {
		err = web.Misfit(web.Clean(answer), "this is a page for people: is there one to log in to before the collector, and is the path of its URL the right one?")
	}
	return v, err
}

// array is all objects of a request in one array.
type array struct{ lines }

func (array) Type() string { return "application/json" }

func (array) Body(dst, text []byte, records []web.Record) []byte {
	between := byte('[')
	for i := range records {
		dst = append(dst, between)
		dst = append(dst, records[i].Text(text)...)
		between = ','
	}
	return append(dst, ']')
}
