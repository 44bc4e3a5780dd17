package sinktest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what a collector's kernel is asked to hold of unread
// bytes. The kernel takes it twice, overhead included (socket(7)).
const receiveBuffer = 4096

// Peer is the collector's side of one connection.
type Peer struct {
	net.Conn
	tcp   *net.TCPConn // below TLS
	br    *bufio.Reader
	meter *meter
}

// meter ends what is read of a connection after so many bytes.
type meter struct {
	*net.TCPConn
	limited bool
	left    int64
}

func (m *meter) Read(p []byte) (int, error) {
	if !m.limited {
		return m.TCPConn.Read(p)
	}
	if m.left == 0 {
		return 0, io.EOF
	}
	n, err := m.TCPConn.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}

// listen serves connections until the test ends and returns where.
func (p Protocol) listen(t *testing.T, config *tls.Config, serve func(*Peer)) string {
	t.Helper()
	addr, _ := p.listenAt(t, "127.0.0.1:0", config, serve)
	return addr
}

func (p Protocol) listenAt(t *testing.T, addr string, config *tls.Config, serve func(*Peer)) (string, func()) {
	t.Helper()
	control := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		})
		return errors.Join(err, ctlErr)
	}}
	ln, err := control.Listen(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	stop := func() { _ = ln.Close(); running.Wait() }
	t.Cleanup(stop)
	running.Go(func() { p.accept(t, ln, config, &running, serve) })
	return ln.Addr().String(), stop
}

func (p Protocol) accept(t *testing.T, ln net.Listener, config *tls.Config, running *sync.WaitGroup, serve func(*Peer)) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		running.Go(func() {
			m := &meter{TCPConn: c.(*net.TCPConn)}
			peer := &Peer{Conn: m, tcp: m.TCPConn, meter: m}
			if config != nil {
				peer.Conn = tls.Server(m, config)
			}
			peer.br = bufio.NewReader(peer.Conn)
			defer func() { _ = peer.tcp.Close() }()
			if err := p.greet(peer); err != nil {
				if !p.refuses {
					t.Errorf("greet: %v", err)
				}
				_ = peer.Close()
				return
			}
			serve(peer)
			_ = peer.tcp.SetLinger(0) // so that closing resets; closed already, it does nothing
		})
	}
}

func (p Protocol) greet(peer *Peer) error {
	if c, ok := peer.Conn.(*tls.Conn); ok {
		if err := c.Handshake(); err != nil {
			return err
		}
	}
	if p.Greet == nil {
		return nil
	}
	return p.Greet(peer, peer.br)
}

// receive reads and answers until the connection ends, or limit bytes behind
// the greeting, those of TLS among them, are read (limit < 0: no limit).
func (p Protocol) receive(peer *Peer, limit int64, got func(line string)) {
	peer.meter.limited, peer.meter.left = limit >= 0, limit
	if p.serve != nil {
		p.serve(peer, got)
		return
	}
	for {
		lines, reply, err := p.Next(peer.br)
		if err != nil {
			return
		}
		for _, line := range lines {
			got(line)
		}
		if _, err := peer.Write(reply); err != nil {
			return
		}
	}
}
