// Package syslog sends records to a syslog receiver over TCP: RFC 5424
// messages, framed by octet counting (RFC 6587 section 3.4.1), so that a line
// may hold whatever bytes it likes.
//
//	syslog+tcp://host[:601][?facility=daemon][&timeout=30s][&max-line=SIZE]
//
// Syslog has no acknowledgement. Progress is what the receiver's TCP has
// acknowledged, which a receiver that dies may not have read: RELP is better.
// Many receivers cut messages that are longer than they expect; rsyslog's
// maxMessageSize is 8 KiB unless set. Lines longer than max-line (128 KiB unless
// set) are sent in pieces, each but the last with cut="true".
package syslog

import (
	"context"
	"net/url"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	// defaultMaxLine keeps messages below the 200,000 bytes at which rsyslog's
	// imtcp takes a frame's length for a mistake and reads on line by line,
	// which puts all messages that follow into one (maxFrameSize).
	defaultMaxLine = 128 << 10
)

type collector struct {
	*wire.Target
	facility int
}

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	target, err := wire.ParseTarget(u, host, wire.Spec{
		Schemes: map[string]string{"syslog+tcp": "601", "syslog+tls": "6514"}, Params: []string{"facility"}, MaxLine: defaultMaxLine,
	})
	if err != nil {
		return nil, err
	}
	facility, err := rfc5424.Facility(target)
	if err != nil {
		return nil, err
	}
	return &collector{target, facility}, nil
}

// Limits: a batch is one write of as much as a socket buffer takes well.
func (s *collector) Limits() ship.Limits {
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 4096, InFlight: 8, RecordBytes: s.MaxLine}
}

func (s *collector) Prepare(m *ship.Meta) ship.Template { return rfc5424.New(m, s.facility) }

func (s *collector) Dial(ctx context.Context) (ship.Conn, error) {
	stream, err := s.DialStream(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{stream}, nil
}

type conn struct{ *wire.Stream }

func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	return wire.AppendCounted(dst, t, r)
}
