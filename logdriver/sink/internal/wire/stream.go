package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrPeerClosed says that the collector ended the connection in order.
var ErrPeerClosed = errors.New("collector closed the connection")

// Stream is a TCP connection for a protocol without acknowledgements: a batch
// counts as acknowledged when the peer's TCP has acknowledged its last byte.
//
// That is less than what a protocol of its own can promise. A collector that
// dies, or closes with bytes unread, loses what its kernel had acknowledged
// and it had not read. To keep that small, nothing is counted any more once
// the peer has closed or reset the connection, even if it was acknowledged:
// sent again, it may arrive twice; counted, it might not arrive at all.
//
// What the kernel tells is TCP_INFO's tcpi_bytes_acked (Linux 4.1), and not
// the bytes written less SIOCOUTQ: it comes with the connection's state in one
// call, and needs no second number that moves while a write is going on.
//
// Under TLS the same holds for the bytes that TLS makes of a batch: what it
// writes of its own between them is counted, too.
type Stream struct {
	conn    net.Conn
	tls     *secured      // conn, or nil
	tcp     *net.TCPConn  // below it
	settle  time.Duration // see secured.accepted
	base    uint64        // tcpi_bytes_acked before the first byte: it counts the SYN
	ledger  *Ledger
	watched chan struct{} // closed when watch has ended
	close   func() error
}

// DialStream is Dial for such a protocol.
func (t *Target) DialStream(ctx context.Context) (*Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	tcp, err := t.dialTCP(ctx)
	if err != nil {
		return nil, err
	}
	s := &Stream{tcp: tcp, ledger: NewLedger(t.Timeout), watched: make(chan struct{}), settle: min(settleTime, t.Timeout/2)}
	s.close = sync.OnceValue(s.shut)
	if s.base, err = s.bytesAcked(); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to collector: %w", err), tcp.Close())
	}
	raw := &rawConn{TCPConn: tcp}
	s.conn = raw
	if t.security != nil {
		if s.tls, err = t.secure(ctx, raw); err != nil {
			return nil, err
		}
		s.conn = s.tls
	}
	s.base += raw.written
	raw.ledger = s.ledger
	go s.watch()
	return s, nil
}

// bytesAcked returns tcpi_bytes_acked of a connection that is whole. State and
// count come from one call: while the state is ESTABLISHED the peer has
// neither closed (CLOSE_WAIT) nor reset (CLOSE) the connection.
func (s *Stream) bytesAcked() (uint64, error) {
	var info *unix.TCPInfo
	err := control(s.tcp, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read TCP_INFO: %w", err)
	}
	if info.State != unix.BPF_TCP_ESTABLISHED {
		return 0, ErrPeerClosed
	}
	return info.Bytes_acked, nil
}

// measure brings the ledger up to date.
//
// It is polled. The kernel's only event is a time stamp on the error queue
// (SOF_TIMESTAMPING_TX_ACK), which would wake reader and writer as an error
// does; and batches are big enough for a poll per batch to cost nothing.
func (s *Stream) measure() error {
	acked, err := s.bytesAcked()
	if errors.Is(err, ErrPeerClosed) {
		<-s.watched // what it said last comes before the end
	}
	if err != nil {
		return err
	}
	if acked > s.base && (s.tls == nil || s.tls.accepted(s.settle)) {
		s.ledger.Advance(acked - s.base)
	}
	return nil
}

// watch reads what the peer sends, which means nothing here, so that its end
// or a reset is noticed at once, also when nothing is being sent. Reading also
// keeps our own close from turning into a reset.
func (s *Stream) watch() {
	defer close(s.watched)
	var ignored [512]byte
	for {
		_, err := s.conn.Read(ignored[:])
		if errors.Is(err, io.EOF) {
			err = ErrPeerClosed
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // FailAfter has something to say
		}
		if err != nil {
			s.ledger.Fail(fmt.Errorf("watch collector: %w", err))
			return
		}
	}
}

// Send is ship.Conn's Send.
func (s *Stream) Send(ctx context.Context, batch []byte) error {
	if err := s.ledger.Err(); err != nil {
		return err
	}
	if err := WriteAll(ctx, s.conn, batch); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return s.ledger.FailAfter(err, s.conn, s.watched)
		}
		s.ledger.Fail(err)
		return err
	}
	return s.ledger.Commit()
}

// Wait is ship.Conn's Wait.
func (s *Stream) Wait(ctx context.Context, seen uint64) (uint64, error) {
	return s.ledger.Wait(ctx, seen, s.measure)
}

// Close is ship.Conn's Close. What is written and not acknowledged may still
// arrive: the kernel goes on sending it.
func (s *Stream) Close() error { return s.close() }

func (s *Stream) shut() error {
	s.ledger.Fail(net.ErrClosed)
	err := s.conn.Close()
	<-s.watched
	return err
}
