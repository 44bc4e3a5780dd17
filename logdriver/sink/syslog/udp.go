package syslog

import (
	"context"
	"fmt"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// Bounds of max-message, in bytes. Receivers should take 2048 (RFC 5426 section
// 3.2); no datagram holds more than the largest.
const (
	standardMessage = 2048
	minMessage      = 1024
	largestMessage  = wire.LargestDatagram
)

func checkDatagram(t *wire.Target) error {
	if n := t.MaxMessage; n < minMessage || n > largestMessage {
		return &options.ValueError{What: wire.ParamKind, Key: "max-message", Value: t.Params["max-message"],
			Err: fmt.Errorf("not within %d to %d bytes", minMessage, largestMessage)}
	}
	return nil
}

// udpConn sends each message as a datagram.
type udpConn struct{ *wire.Datagrams }

func (c *collector) dialUDP(ctx context.Context) (*udpConn, error) {
	d, err := c.DialDatagrams(ctx)
	if err != nil {
		return nil, err
	}
	return &udpConn{d}, nil
}

// Append implements ship.Conn. ship has seen to it that a message is no longer than
// max-message, unless the name of the host and the like take all of that.
func (c *udpConn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	start := len(dst)
	return wire.EndDatagram(t.Append(wire.BeginDatagram(dst), r), start)
}
