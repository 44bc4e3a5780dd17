// Package relp sends records by RELP, version 1 (librelp's doc/relp.html):
// RFC 5424 messages in frames that the server answers one by one. A record is
// acknowledged when the server has taken it over, which with rsyslog means
// that it is in the queue behind the input.
//
//	relp://host[:2514][?facility=daemon][&timeout=30s][&max-line=SIZE][&max-message=SIZE]
//	relp+tls://host[:2514][?tls-ca=FILE]…
//
// Frames carry their length, so that a line may hold whatever bytes it likes.
// Many servers cut messages that are longer than they expect; rsyslog's
// maxMessageSize is 8 KiB unless set, and so is imrelp's maxDataSize. What is longer
// than max-message (1 MiB unless set) is sent in pieces.
package relp

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	defaultPort = "2514"
	// defaultMaxMessage is what the documented configuration of rsyslog takes.
	defaultMaxMessage = 1 << 20
)

type collector struct {
	*wire.Target
	facility int
}

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	target, err := wire.ParseTarget(u, host, wire.Spec{
		Schemes: map[string]string{"relp": defaultPort, "relp+tls": defaultPort}, Params: []string{"facility", "max-message"}, MaxMessage: defaultMaxMessage,
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

// Limits: the window is up to 8192 frames. Servers answer each, so that a
// batch of fewer records keeps both directions busy.
func (s *collector) Limits() ship.Limits {
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 1024, InFlight: 8, RecordBytes: s.MaxLine, MessageBytes: s.MaxMessage}
}

func (s *collector) Prepare(m *ship.Meta) ship.Template {
	return rfc5424.New(m, s.facility, s.MaxMessage)
}

// Dial connects and exchanges offers.
func (s *collector) Dial(ctx context.Context) (ship.Conn, error) {
	link, err := s.Target.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := newConn(link, s.Timeout)
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open RELP session: %w", err), link.Close())
	}
	go c.listen()
	return c, nil
}
