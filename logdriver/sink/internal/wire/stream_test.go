package wire

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/sink"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// pair returns both ends of a connection.
func pair(t *testing.T) (*Stream, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	s, err := (&Target{Addr: ln.Addr().String(), Timeout: time.Minute, Host: sink.Host{Resolver: net.DefaultResolver}}).DialStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	return s, peer.(*net.TCPConn)
}

// TestNothingCountsOnceThePeerHasClosed: its kernel had acknowledged the bytes,
// and it never read them.
func TestNothingCountsOnceThePeerHasClosed(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn) error{
		"closed with bytes unread": (*net.TCPConn).Close,
		"half closed":              (*net.TCPConn).CloseWrite,
		"reset": func(c *net.TCPConn) error {
			return errors.Join(c.SetLinger(0), c.Close())
		},
	} {
		s, peer := pair(t)
		if err := s.Send(t.Context(), []byte("0123456789")); err != nil {
			t.Fatal(err)
		}
		if acked, err := s.bytesAcked(); err != nil || acked-s.base > 10 {
			t.Errorf("%s: before: %d bytes, %v", name, acked-s.base, err)
		}
		if err := end(peer); err != nil {
			t.Fatal(err)
		}
		<-s.watched
		if _, err := s.bytesAcked(); !errors.Is(err, ErrPeerClosed) {
			t.Errorf("%s: %v", name, err)
		}
		if acked, err := s.Wait(t.Context(), 0); acked != 0 || err == nil {
			t.Errorf("%s: %d batches, %v", name, acked, err)
		}
	}
}

// TestTheSYNIsNotCounted: the kernel counts it among the bytes.
func TestTheSYNIsNotCounted(t *testing.T) {
	s, _ := pair(t)
	if err := s.measure(); err != nil {
		t.Fatal(err)
	}
	if done, expected := s.ledger.Outstanding(); done != 0 || expected != 0 {
		t.Errorf("%d of %d", done, expected)
	}
}
