package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// mark is in each line once, and in nothing else that is sent.
const mark = '^'

// counter is a collector that counts records and discards them.
type counter struct {
	l  net.Listener
	wg sync.WaitGroup

	tally atomic.Pointer[tally] // of the run under way

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

func startCounter(proto string) (*counter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a collector: %w", err)
	}
	c := &counter{l: l, conns: map[net.Conn]bool{}}
	serve := map[string]func(net.Conn){"relp": c.relp, "tcp": c.discardMuch}[proto]
	if serve == nil {
		serve = c.discard
	}
	c.wg.Go(func() { c.accept(serve) })
	return c, nil
}

func (c *counter) addr() string { return c.l.Addr().String() }

func (c *counter) close() {
	_ = c.l.Close()
	c.mu.Lock()
	for conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

func (c *counter) accept(serve func(net.Conn)) {
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.conns[conn] = true
		c.mu.Unlock()
		c.wg.Go(func() {
			serve(conn)
			_ = conn.Close()
			c.mu.Lock()
			delete(c.conns, conn)
			c.mu.Unlock()
		})
	}
}

// count adds to the goal under way.
func (c *counter) count(n int) {
	if n == 0 {
		return
	}
	if t := c.tally.Load(); t != nil {
		t.add(int64(n))
	}
}

// discardMuch is discard for drivers that send each record by itself: it is not
// woken before there is much to read, or the end, so that it takes less of the
// machine that it shares with them.
func (c *counter) discardMuch(conn net.Conn) {
	if raw, err := conn.(*net.TCPConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, 64<<10) })
	}
	c.discard(conn)
}

func (c *counter) discard(conn net.Conn) {
	buf := make([]byte, 256<<10)
	for {
		n, err := conn.Read(buf)
		c.count(bytes.Count(buf[:n], []byte{mark}))
		if err != nil {
			return
		}
	}
}

// relp answers each frame, TXNR SP COMMAND SP DATALEN [SP DATA] LF, the answers
// of all that one read brought going out together.
func (c *counter) relp(conn net.Conn) {
	in, out := bufio.NewReaderSize(conn, 256<<10), bufio.NewWriterSize(conn, 64<<10)
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		txnr, command, data, err := relpFrame(in)
		if err != nil {
			return
		}
		switch command {
		case "open":
			fmt.Fprintf(out, "%s rsp %d 200 OK\n%s\n", txnr, len("200 OK\n")+len(offers), offers)
		case "syslog":
			c.count(data)
			_, _ = out.WriteString(txnr)
			_, _ = out.WriteString(" rsp 6 200 OK\n")
		default:
			return
		}
	}
}

const offers = "relp_version=0\nrelp_software=counter\ncommands=syslog"

// relpFrame reads a frame and returns how many marks are in its data.
func relpFrame(in *bufio.Reader) (txnr, command string, marks int, err error) {
	if txnr, err = word(in); err != nil {
		return "", "", 0, err
	}
	if command, err = word(in); err != nil {
		return "", "", 0, err
	}
	digits, err := word(in)
	if err != nil {
		return "", "", 0, err
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return "", "", 0, fmt.Errorf("read a frame's length: %w", err)
	}
	data, err := in.Peek(n + 1)
	marks = bytes.Count(data, []byte{mark})
	if err == nil {
		_, err = in.Discard(n + 1)
	}
	return txnr, command, marks, err
}

func word(in *bufio.Reader) (string, error) {
	b, err := in.ReadSlice(' ')
	if err != nil {
		return "", err
	}
	return string(b[:len(b)-1]), nil
}
