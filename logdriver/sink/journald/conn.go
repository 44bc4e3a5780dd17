package journald

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	sendBuffer = 8 << 20
	// largest is what an entry in a datagram may have, in bytes: larger ones go by a
	// file, which need not fit into the socket's buffer.
	largest = 64 << 10
	// prefix is an entry's length before it in a batch.
	prefix = 4
	// firstPause and lastPause are between attempts where the kernel has no room for
	// anything and tells nobody when it has.
	firstPause = time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// conn sends each entry as a datagram. It counts those as acknowledged that are
// in the journal's queue; a full queue blocks.
type conn struct {
	socket *net.UnixConn
	ledger *wire.Ledger // counts entries
	done   uint64       // of those; owned by the goroutine that calls Send
	closed chan struct{}
	close  func() error
}

func newConn(socket *net.UnixConn, timeout time.Duration) *conn {
	c := &conn{socket: socket, ledger: wire.NewLedger(timeout), closed: make(chan struct{})}
	c.close = sync.OnceValue(func() error {
		c.ledger.Fail(net.ErrClosed)
		close(c.closed)
		return c.socket.Close()
	})
	return c
}

// Append implements ship.Conn.
func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	start := len(dst)
	dst = t.Append(append(dst, 0, 0, 0, 0), r)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-prefix)) //nolint:gosec // a record has less than 4 GiB
	return dst
}

// Send implements ship.Conn.
func (c *conn) Send(ctx context.Context, batch []byte) error {
	err := wire.Until(ctx, c.socket, func() error {
		for len(batch) > 0 {
			end := prefix + binary.LittleEndian.Uint32(batch)
			if err := c.ledger.Begin(1); err != nil {
				return err
			}
			if err := c.entry(ctx, batch[prefix:end]); err != nil {
				return err
			}
			c.done++
			c.ledger.Advance(c.done)
			batch = batch[end:]
		}
		return nil
	})
	if err != nil {
		c.ledger.Fail(err)
		return err
	}
	return c.ledger.Commit()
}

// entry sends one entry, and waits while there is no room for it.
func (c *conn) entry(ctx context.Context, text []byte) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := unix.EMSGSIZE
		if len(text) <= largest {
			_, sendErr := c.socket.Write(text)
			if !errors.As(sendErr, &err) || err != unix.EMSGSIZE && err != unix.ENOBUFS {
				return sendErr
			}
		}
		fileErr := c.byFile(text)
		if !errors.Is(fileErr, unix.ENOBUFS) && !errors.Is(fileErr, unix.ETOOMANYREFS) {
			return fileErr
		}
		select { // nothing tells when there is room
		case <-time.After(pause):
		case <-c.closed:
			return net.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// byFile sends an entry as a sealed file in memory.
func (c *conn) byFile(text []byte) error {
	fd, err := unix.MemfdCreate("dockline-log", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("make a file for a large entry: %w", err)
	}
	file := os.NewFile(uintptr(fd), "entry")
	defer file.Close()
	if _, err := file.Write(text); err != nil {
		return fmt.Errorf("write a large entry: %w", err)
	}
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal a large entry: %w", err)
	}
	return c.pass(unix.UnixRights(int(file.Fd())))
}

// pass sends a datagram without bytes. Go's own call refuses to on a socket that is
// connected.
func (c *conn) pass(rights []byte) error {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		for {
			sendErr = unix.Sendmsg(int(fd), nil, rights, nil, unix.MSG_NOSIGNAL)
			if !errors.Is(sendErr, unix.EINTR) {
				return !errors.Is(sendErr, unix.EAGAIN)
			}
		}
	})
	return errors.Join(err, sendErr)
}

// Wait implements ship.Conn.
func (c *conn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	return c.ledger.Wait(ctx, seen, nil)
}

// Close implements ship.Conn.
func (c *conn) Close() error { return c.close() }
