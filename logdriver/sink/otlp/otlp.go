// Package otlp sends records by the OpenTelemetry Protocol, in protobuf over HTTP
// or over gRPC (opentelemetry.io/docs/specs/otlp).
//
//	otlp+http://host[:4318][/v1/logs]    otlp+https://host
//	otlp+grpc://host[:4317]              otlp+grpc+tls://host
//
// Parameters are those of all sinks over HTTP; over gRPC there is one connection,
// with several requests under way, but never two with records of one stream.
//
// A container's stream is a resource, with attributes after the semantic
// conventions: what field.Resource makes of the fields, and the attributes that
// were asked for under their own names. A record has time (the application's,
// where it says one) and observed time (the engine's), severity, and as attributes
// log.iostream (stdout or stderr), log.record.uid (the record's id, the same when
// it is sent again), log.cut where it is one piece of a longer line, and the
// fields that were lifted out of the line. The body is a string, or bytes where
// the line is not UTF-8.
package otlp

import (
	"net/http"
	"net/url"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// maxLine leaves room for what is around a line in the 4 MiB that servers of gRPC
// take in a message unless they are told otherwise.
const maxLine = 3 << 20

type collector struct{ *web.Collector }

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	c, err := web.Parse(u, host, web.Spec{
		Names: []string{"otlp"}, Port: "4318", Path: "/v1/logs", Params: []string{"max-message"}, Connections: 2, Bytes: 1 << 20, Records: 8192,
		// The specification has 429, 502, 503 and 504 sent again, and the Collector
		// says 500 of what its pipeline will never take.
		Final: []int{http.StatusInternalServerError},
	})
	if err != nil {
		return nil, err
	}
	c.Format = export{}
	return &collector{c}, nil
}

// NewGRPC returns the sink that u describes.
func NewGRPC(u *url.URL, host sink.Host) (ship.Sink, error) {
	c, err := web.Parse(u, host, web.Spec{
		Schemes: map[string]string{"otlp+grpc": "4317", "otlp+grpc+tls": "4317"}, ALPN: []string{"h2"},
		Carried: true, Ordered: true, Connections: 4, Bytes: 1 << 20, Records: 8192, MaxLine: maxLine,
	})
	if err != nil {
		return nil, err
	}
	c.Format = export{}
	c.Carry = newCarrier(c, u.Scheme == "otlp+grpc+tls")
	return &collector{c}, nil
}

func (c *collector) Prepare(m *ship.Meta) ship.Template { return newTemplate(m) }
