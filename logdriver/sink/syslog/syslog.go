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
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	scheme      = "syslog+tcp"
	defaultPort = "601" // syslog-conn, RFC 3195 and IANA

	// defaultMaxLine keeps messages below the 200,000 bytes at which rsyslog's
	// imtcp takes a frame's length for a mistake and reads on line by line,
	// which puts all messages that follow into one (maxFrameSize).
	defaultMaxLine = 128 << 10
)

type sink struct {
	addr     string
	timeout  time.Duration
	facility int
	maxLine  int
}

// New returns the sink that u describes.
func New(u *url.URL) (ship.Sink, error) {
	target, err := wire.ParseTarget(u, scheme, defaultPort, []string{"facility", "timeout", "max-line"})
	if err != nil {
		return nil, err
	}
	s := &sink{addr: target.Addr}
	if s.timeout, err = target.Timeout(); err != nil {
		return nil, err
	}
	if s.facility, err = rfc5424.Facility(target); err != nil {
		return nil, err
	}
	if s.maxLine, err = target.MaxLine(defaultMaxLine); err != nil {
		return nil, err
	}
	return s, nil
}

// Limits: a batch is one write of as much as a socket buffer takes well.
func (s *sink) Limits() ship.Limits {
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 4096, InFlight: 8, RecordBytes: s.maxLine}
}

func (s *sink) Prepare(m *ship.Meta) ship.Template { return rfc5424.New(m, s.facility) }

func (s *sink) Dial(ctx context.Context) (ship.Conn, error) {
	stream, err := wire.DialStream(ctx, s.addr, s.timeout)
	if err != nil {
		return nil, err
	}
	return &conn{stream}, nil
}

type conn struct{ *wire.Stream }

func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	return wire.AppendCounted(dst, t, r)
}
