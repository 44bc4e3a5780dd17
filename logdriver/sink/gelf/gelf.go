// Package gelf sends records as GELF 1.1, which Graylog, Logstash, Fluent Bit and
// Vector take.
//
//	gelf+tcp://host[:12201]    gelf+tls://host[:12201]    gelf+udp://host[:12201]
//
// By TCP and TLS each message ends with a NUL, and is not compressed: receivers
// could not find its end. Parameters of UDP:
//
//	compress      none, gzip or zlib
//	max-datagram  the longest datagram, in bytes; what is longer goes in chunks,
//	              128 at most
//
// and of the others
//
//	max-message   the longest message, in bytes
//
// What makes a longer message is sent in pieces.
//
// A message's standard fields are version, host, short_message (of several lines,
// the first), full_message (all of them), timestamp and level; beside them there
// are
//
//	_record_id    <stream>-<offset>, the same when sent again. _id is not allowed
//	_stream       stdout or stderr
//	_container_id and all that is known of a stream, see field.All
//	_cut          true where the record is one piece of a longer line
//	_line_base64  the line's exact bytes, where it is not UTF-8: its first 24 KiB
//
// then the labels, variables and constants that were asked for, and what was
// lifted out of the line.
//
// There is no acknowledgement. Progress is what the receiver's TCP has
// acknowledged, which a receiver that dies may not have read; by UDP it is what
// was sent.
package gelf

import (
	"context"
	"fmt"
	"net/url"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	defaultPort = "12201"
	// defaultMaxMessage is below Graylog's max_message_size, 2 MiB.
	defaultMaxMessage = 2<<20 - slack
	// slack is by how much more a message may grow than ship reckons with: by its
	// short message, which is in the full one, too.
	slack = 8 << 10
)

// Bounds of max-datagram, in bytes. Receivers need not take more than the largest;
// the standard goes through the internet's tunnels in one packet.
const (
	standardDatagram = 1420
	minDatagram      = 1024
	largestDatagram  = 8192
)

// collector is what a URL says.
type collector struct {
	*wire.Target
	datagram int // the longest; 0 where there are none
	compress string
}

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	spec := wire.Spec{
		Schemes: map[string]string{"gelf+tcp": defaultPort, "gelf+tls": defaultPort, "gelf+udp": defaultPort},
	}
	udp := u.Scheme == "gelf+udp"
	if udp {
		spec.Params = []string{"compress", "max-datagram"}
	} else {
		spec.Params, spec.MaxMessage = []string{"max-message"}, defaultMaxMessage
	}
	if !udp && u.Query().Has("compress") {
		return nil, fmt.Errorf("collector URL %s: %s \"compress\" is for gelf+udp: by TCP a message ends with a NUL, which compressed ones hold", redact.URL(u), wire.ParamKind)
	}
	target, err := wire.ParseTarget(u, host, spec)
	if err != nil {
		return nil, err
	}
	c := &collector{Target: target}
	if !udp {
		return c, nil
	}
	if c.compress, err = target.Choice("compress", none, withGzip, withZlib); err != nil {
		return nil, err
	}
	c.datagram, err = maxDatagram(target)
	return c, err
}

func maxDatagram(t *wire.Target) (int, error) {
	n, err := t.Size("max-datagram", standardDatagram)
	if err == nil && (n < minDatagram || n > largestDatagram) {
		err = &options.ValueError{What: wire.ParamKind, Key: "max-datagram", Value: t.Params["max-datagram"],
			Err: fmt.Errorf("not within %d to %d bytes", minDatagram, largestDatagram)}
	}
	return n, err
}

// Limits: a batch is one write of as much as a socket buffer takes well.
// Datagrams are written one by one, and a batch that failed is sent again.
func (c *collector) Limits() ship.Limits {
	if c.datagram > 0 {
		return ship.Limits{BatchBytes: 32 << 10, BatchRecords: 128, InFlight: 2, RecordBytes: c.MaxLine, MessageBytes: (c.datagram-chunkHead)*maxChunks - slack}
	}
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 4096, InFlight: 8, RecordBytes: c.MaxLine, MessageBytes: max(c.MaxMessage-slack, c.MaxMessage/2)}
}

func (c *collector) Prepare(m *ship.Meta) ship.Template { return newTemplate(m) }

func (c *collector) Dial(ctx context.Context) (ship.Conn, error) {
	if c.datagram > 0 {
		return c.dialUDP(ctx)
	}
	stream, err := c.DialStream(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{stream}, nil
}

// conn ends each message with a NUL.
type conn struct{ *wire.Stream }

func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	return append(t.Append(dst, r), 0)
}
