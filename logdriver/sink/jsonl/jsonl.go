// Package jsonl sends records as JSON, one object per line, over TCP or TLS: what
// Logstash (tcp input, json_lines codec), Vector (socket source) and Fluent
// Bit (tcp input) take.
//
//	json+tcp://host:port[?timeout=30s][&max-line=SIZE][&max-message=SIZE]
//	json+tls://host:port[?tls-ca=FILE]…
//	json+http://host/path[?format=array]    json+https://host/path
//
// or in the bodies of HTTP requests, which is what the same take that acknowledge.
//
// Keys, in this order; one without a value is left out, unless marked with *:
//
//	time*            RFC 3339, UTC, always nine decimals
//	stream*          stdout or stderr
//	id*              record id, <stream>-<number>, the same when sent again
//	host*            name of the host that runs the engine
//	tag
//	container_id, container_name, image_id, image_name
//	command          entrypoint and arguments
//	created          when the container was created; RFC 3339, UTC
//	engine, dockline_version
//	compose_project… what the container is part of, see field.All
//	attrs            object: the labels, variables and constants that were asked for
//	level            trace, debug, info, notice, warn, error, critical, alert or
//	                 emergency, where the application says so in the line
//	fields           object: what was lifted out of the line
//	cut              true where the record is one piece of a longer line
//	message*         the line; bytes that are not UTF-8 read U+FFFD there
//	message_base64   the line's exact bytes, where it is not UTF-8
//
// There is no acknowledgement. Progress is what the receiver's TCP has
// acknowledged, which a receiver that dies may not have read.
package jsonl

import (
	"context"
	"net/url"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/jsonline"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

type collector struct{ *wire.Target }

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	target, err := wire.ParseTarget(u, host, wire.Spec{Schemes: map[string]string{"json+tcp": "", "json+tls": ""}, Params: []string{"max-message"}})
	if err != nil {
		return nil, err
	}
	return &collector{target}, nil
}

// Limits: a batch is one write of as much as a socket buffer takes well.
func (s *collector) Limits() ship.Limits {
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 4096, InFlight: 8, RecordBytes: s.MaxLine, MessageBytes: s.MaxMessage}
}

func (s *collector) Prepare(m *ship.Meta) ship.Template { return jsonline.New(m) }

func (s *collector) Dial(ctx context.Context) (ship.Conn, error) {
	stream, err := s.DialStream(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{stream}, nil
}

type conn struct{ *wire.Stream }

func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	return append(t.Append(dst, r), '\n')
}
