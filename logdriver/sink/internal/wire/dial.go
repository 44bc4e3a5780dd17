package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/loopback"
)

// Dial opens a connection, under TLS where the scheme says so, looking the name
// up anew and trying its addresses in turn. A peer that no longer answers is
// given up after about the timeout, whether data is on its way
// (TCP_USER_TIMEOUT, RFC 5482) or the connection is idle (keepalive).
func (t *Target) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	tcp, err := t.dialTCP(ctx)
	if err != nil {
		return nil, err
	}
	if t.security == nil {
		return tcp, nil
	}
	conn, err := t.secure(ctx, &rawConn{TCPConn: tcp})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// secure puts TLS above a connection, which an error closes.
func (t *Target) secure(ctx context.Context, raw *rawConn) (*secured, error) {
	conn, err := t.security.handshake(ctx, raw)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to collector: %w", err), raw.Close())
	}
	return conn, nil
}

// At returns the target for another address of a collector that has several, as
// the members of a cluster have.
func (t *Target) At(addr string) *Target {
	other := *t
	other.Addr = addr
	if t.security != nil {
		s := *t.security
		if s.addr = addr; t.Params["tls-name"] == "" {
			s.name, _, _ = net.SplitHostPort(addr)
		}
		other.security = &s
	}
	return &other
}

// Secure reports whether the scheme asks for TLS.
func (t *Target) Secure() bool { return t.security != nil }

// Exposed says that the collector gets a secret without encryption; "" where TLS is
// spoken, or the collector is on this host.
func (t *Target) Exposed(secret string) string {
	if t.Secure() || loopback.Is(t.Addr) {
		return ""
	}
	return fmt.Sprintf("%s goes to %s unencrypted, for everybody to read who is between: take the scheme with +tls or +https", secret, t.Addr)
}

// DialPlain is Dial for a protocol that begins in the clear: upgrade puts TLS above
// the connection, and closes it where that fails.
func (t *Target) DialPlain(ctx context.Context) (conn net.Conn, upgrade func(context.Context) (net.Conn, error), err error) {
	tcp, err := t.dialTCP(ctx)
	if err != nil {
		return nil, nil, err
	}
	return tcp, func(ctx context.Context) (net.Conn, error) {
		secured, err := t.secure(ctx, &rawConn{TCPConn: tcp})
		if err != nil {
			return nil, err
		}
		return secured, nil
	}, nil
}

func (t *Target) dialTCP(ctx context.Context) (*net.TCPConn, error) {
	conn, err := t.dialAny(ctx, "tcp")
	if err != nil {
		return nil, fmt.Errorf("connect to collector: %w", err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connect to collector: got a %T", conn), conn.Close())
	}
	if err := setUserTimeout(tcp, t.Timeout); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return tcp, nil
}

// DialUDP opens a socket that sends to one address of the collector.
func (t *Target) DialUDP(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	conn, err := t.dialAny(ctx, "udp")
	if err != nil {
		return nil, fmt.Errorf("connect to collector: %w", err)
	}
	return conn, nil
}

func (t *Target) dialAny(ctx context.Context, network string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(t.Addr)
	if err != nil {
		return nil, err
	}
	addrs, err := t.Host.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: max(t.Timeout/2, time.Second), Interval: max(t.Timeout/6, time.Second), Count: 3,
	}}
	// TCP_INFO of a multipath socket counts something else than this socket's bytes.
	dialer.SetMultipathTCP(false)
	var failed []error
	for i, addr := range addrs {
		// One that does not answer leaves time for those behind it.
		end, _ := ctx.Deadline()
		dialer.Timeout = time.Until(end) / time.Duration(len(addrs)-i)
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(addr.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

func setUserTimeout(conn *net.TCPConn, timeout time.Duration) error {
	err := control(conn, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
	})
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

// control runs f on the connection's descriptor.
func control(conn *net.TCPConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// WriteAll writes all of p to conn, or returns an error at ctx's end; how much
// was written is not known then, and conn is of no more use.
func WriteAll(ctx context.Context, conn net.Conn, p []byte) error {
	return Until(ctx, conn, func() error {
		_, err := conn.Write(p)
		return err
	})
}

// Until calls write, and has its writing to conn end when ctx does.
func Until(ctx context.Context, conn net.Conn, write func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send batch: %w", err)
	}
	deadline, _ := ctx.Deadline() // the zero time is no deadline
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	err := write()
	// Where ctx has ended meanwhile the past deadline above may be set at any
	// moment, so that the connection cannot be trusted with another batch.
	if !stop() && ctx.Err() != nil {
		return fmt.Errorf("send batch: %w", ctx.Err())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.DeadlineExceeded // the socket's timer was a little ahead of ctx's
	}
	if err != nil {
		return fmt.Errorf("send batch: %w", err)
	}
	return nil
}

// Reason returns why writing to conn ended with err: what the peer said last,
// where that is an error, such as TLS's alerts are. Nobody else may be reading.
func Reason(conn net.Conn, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || conn.SetReadDeadline(time.Now().Add(closeGrace)) != nil {
		return err
	}
	var ignored [512]byte
	for {
		_, readErr := conn.Read(ignored[:])
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, os.ErrDeadlineExceeded) {
			return err
		}
		if readErr != nil {
			return readErr
		}
	}
}
