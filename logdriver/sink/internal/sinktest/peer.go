package sinktest

import (
	"bufio"
	"context"
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
	*net.TCPConn
	br *bufio.Reader
}

// listen serves connections until the test ends and returns where.
func (p Protocol) listen(t *testing.T, serve func(*Peer)) string {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		})
		return errors.Join(err, ctlErr)
	}}
	ln, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); running.Wait() })
	running.Go(func() { p.accept(t, ln, &running, serve) })
	return ln.Addr().String()
}

func (p Protocol) accept(t *testing.T, ln net.Listener, running *sync.WaitGroup, serve func(*Peer)) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		running.Go(func() {
			peer := &Peer{c.(*net.TCPConn), bufio.NewReader(c)}
			defer func() { _ = peer.Close() }()
			if err := p.greet(peer); err != nil {
				t.Errorf("greet: %v", err)
				return
			}
			serve(peer)
			_ = peer.SetLinger(0) // so that closing resets; closed already, it does nothing
		})
	}
}

func (p Protocol) greet(peer *Peer) error {
	if p.Greet == nil {
		return nil
	}
	return p.Greet(peer, peer.br)
}

// receive reads and answers until the connection ends, or limit bytes behind
// the greeting are read (limit < 0: no limit).
func (p Protocol) receive(peer *Peer, limit int64, got func(line string)) {
	br := peer.br
	if limit >= 0 {
		br = bufio.NewReader(io.LimitReader(peer.br, limit))
	}
	for {
		line, reply, err := p.Next(br)
		if err != nil {
			return
		}
		got(line)
		if _, err := peer.Write(reply); err != nil {
			return
		}
	}
}
