// Package relp sends records by RELP, version 1 (librelp's doc/relp.html):
// RFC 5424 messages in frames that the server answers one by one. A record is
// acknowledged when the server has taken it over, which with rsyslog means
// that it is in the queue behind the input.
//
//	relp://host[:2514][?facility=daemon][&timeout=30s][&max-line=SIZE]
//
// Frames carry their length, so that a line may hold whatever bytes it likes.
// Many servers cut messages that are longer than they expect; rsyslog's
// maxMessageSize is 8 KiB unless set, and so is imrelp's maxDataSize.
package relp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	scheme      = "relp"
	defaultPort = "2514"
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
	if s.maxLine, err = target.MaxLine(0); err != nil {
		return nil, err
	}
	return s, nil
}

// Limits: the window is up to 8192 frames. Servers answer each, so that a
// batch of fewer records keeps both directions busy.
func (s *sink) Limits() ship.Limits {
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 1024, InFlight: 8, RecordBytes: s.maxLine}
}

func (s *sink) Prepare(m *ship.Meta) ship.Template { return rfc5424.New(m, s.facility) }

// Dial connects and exchanges offers.
func (s *sink) Dial(ctx context.Context) (ship.Conn, error) {
	tcp, err := wire.Dial(ctx, s.addr, s.timeout)
	if err != nil {
		return nil, err
	}
	c := newConn(tcp, s.timeout)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open RELP session: %w", err), tcp.Close())
	}
	go c.listen()
	return c, nil
}
