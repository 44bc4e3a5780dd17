// Package syslog sends records to a syslog receiver, as RFC 5424 messages or in
// the older form of RFC 3164.
//
//	syslog+tcp://host[:601]    syslog+tls://host[:6514] (RFC 5425)    syslog+udp://host[:514] (RFC 5426)
//
// Parameters, beside those of all sinks:
//
//	facility      a name or number, daemon unless given
//	format        rfc5424, or rfc3164, which has room for host, tag and id only
//	              unless metadata says otherwise
//	time          rfc3339 or bsd: the time in RFC 3164 messages; bsd is to the second, in UTC
//	framing       octet (RFC 6587 section 3.4.1; RFC 5425), so that a line may hold
//	              whatever bytes it likes; or newline (section 3.4.2), with line
//	              feeds and the like escaped as #012. TCP and TLS only
//	max-message   the longest message, in bytes, fields and all; by UDP the longest
//	              datagram
//	metadata      none, or cee: RFC 3164 messages hold all that the others do, see bsd
//
// Syslog has no acknowledgement. Progress is what the receiver's TCP has
// acknowledged, which a receiver that dies may not have read: RELP is better.
// By UDP it is what was sent, and nobody knows what became of it.
//
// Many receivers cut messages that are longer than they expect; rsyslog's
// maxMessageSize is 8 KiB unless set. Lines longer than max-line (128 KiB unless
// set), and what makes a message longer than max-message (192 KiB unless set), are
// sent in pieces, each but the last marked: with cut="true", or in RFC 3164 with
// [cut] at its end.
package syslog

import (
	"context"
	"fmt"
	"net/url"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// defaultMaxMessage is below the 200,000 bytes at which rsyslog's imtcp takes a
// frame's length for a mistake and reads on line by line, which puts all messages
// that follow into one (maxFrameSize).
const (
	defaultMaxLine    = 128 << 10
	defaultMaxMessage = 192 << 10
)

// collector is what a URL says.
type collector struct {
	*wire.Target
	facility int
	prepare  func(m *ship.Meta, facility int) ship.Template
	lines    bool // framing by newlines
	datagram int  // the longest; 0 where there are none
}

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	spec := wire.Spec{
		Schemes: map[string]string{"syslog+tcp": "601", "syslog+tls": "6514", "syslog+udp": "514"},
		Params:  []string{"facility", "format", "time", "metadata", "max-message"}, MaxLine: defaultMaxLine, MaxMessage: defaultMaxMessage,
	}
	udp := u.Scheme == "syslog+udp"
	if udp {
		spec.MaxMessage = standardMessage
	} else {
		spec.Params = append(spec.Params, "framing")
	}
	target, err := wire.ParseTarget(u, host, spec)
	if err != nil {
		return nil, err
	}
	c := &collector{Target: target}
	if c.facility, err = rfc5424.Facility(target); err != nil {
		return nil, err
	}
	if c.prepare, err = format(target); err != nil {
		return nil, err
	}
	if udp {
		c.datagram = target.MaxMessage
		return c, checkDatagram(target)
	}
	framing, err := target.Choice("framing", "octet", "newline")
	c.lines = framing == "newline"
	return c, err
}

// format returns what makes templates.
func format(t *wire.Target) (func(*ship.Meta, int) ship.Template, error) {
	format, err := t.Choice("format", "rfc5424", "rfc3164")
	if err != nil {
		return nil, err
	}
	stamp, err := t.Choice("time", "rfc3339", "bsd")
	if err != nil {
		return nil, err
	}
	metadata, err := t.Choice("metadata", "none", "cee")
	if err != nil {
		return nil, err
	}
	if format == "rfc3164" {
		return func(m *ship.Meta, facility int) ship.Template {
			return newBSD(m, facility, stamp == "bsd", metadata == "cee")
		}, nil
	}
	if _, given := t.Params["time"]; given {
		return nil, fmt.Errorf("%s \"time\" is for format=rfc3164: RFC 5424 has one form of time", wire.ParamKind)
	}
	if _, given := t.Params["metadata"]; given {
		return nil, fmt.Errorf("%s \"metadata\" is for format=rfc3164: RFC 5424 has structured data", wire.ParamKind)
	}
	return func(m *ship.Meta, facility int) ship.Template { return rfc5424.New(m, facility, t.MaxMessage) }, nil
}

// Limits: a batch is one write of as much as a socket buffer takes well.
// Datagrams are written one by one, and a batch that failed is sent again.
func (c *collector) Limits() ship.Limits {
	if c.datagram > 0 {
		return ship.Limits{BatchBytes: 32 << 10, BatchRecords: 128, InFlight: 2, RecordBytes: c.MaxLine, MessageBytes: c.MaxMessage}
	}
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 4096, InFlight: 8, RecordBytes: c.MaxLine, MessageBytes: c.MaxMessage}
}

func (c *collector) Prepare(m *ship.Meta) ship.Template {
	t := c.prepare(m, c.facility)
	if c.lines {
		return escaping{t}
	}
	return t
}

func (c *collector) Dial(ctx context.Context) (ship.Conn, error) {
	if c.datagram > 0 {
		return c.dialUDP(ctx)
	}
	stream, err := c.DialStream(ctx)
	if err != nil {
		return nil, err
	}
	if c.lines {
		return &lineConn{stream}, nil
	}
	return &countedConn{stream}, nil
}

// countedConn frames by octet counting.
type countedConn struct{ *wire.Stream }

func (c *countedConn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	return wire.AppendCounted(dst, t, r)
}
