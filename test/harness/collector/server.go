// Package collector holds the far end of the log plugin's data path for tests:
// servers of the protocols that collectors speak, which count what they
// receive, and a Checker that compares it with what was written.
//
// A server can be made to behave as badly as real ones do: to stop reading, to
// go away with a reset of its connections, and to come back.
package collector

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Record is one message as it was received.
type Record struct {
	Collector string
	ID        string // <stream>-<offset>
	Container string // name, without a slash
	Source    string // stdout or stderr
	Cut       bool   // the line goes on in another record
	Line      []byte
	Received  time.Time
	// Connection numbers the server's connections from 1 where the protocol has
	// no acknowledgements, else it is 0. Without them, a sender that begins
	// anew cannot know what its old connection has brought but the collector
	// has not read, so order holds within a connection only.
	Connection int
}

// Options says what a server is.
type Options struct {
	Name  string       // the collector's name, in routing and in records
	Proto string       // a key of Protocols
	Addr  string       // where to listen; "" means any loopback port
	Each  func(Record) // called for each record before it is acknowledged, from many goroutines; Line is the callee's
}

// Protocols are the schemes that can be served.
var Protocols = map[string]func(*session) error{
	"gelf+tcp":   serveGELF,
	"json+tcp":   serveJSON,
	"syslog+tcp": serveSyslog,
	"relp":       serveRELP,
}

// Stats is what a server has seen since it was started.
type Stats struct {
	Connections int    `json:"connections"`
	Records     uint64 `json:"records"` // received, the same one twice counting twice
	Bytes       uint64 `json:"bytes"`   // of lines
	Errors      int    `json:"errors"`  // connections that broke the protocol
	LastError   string `json:"last_error,omitempty"`
}

// Server is one collector.
type Server struct {
	opts Options
	addr string
	wg   sync.WaitGroup // the accept loops and their connections

	mu     sync.Mutex // guards the rest
	l      net.Listener
	stats  Stats
	conns  map[*net.TCPConn]bool
	closed bool
	paused chan struct{} // closed by Resume; nil while not paused
}

// readBuffer is how many bytes of a connection are read ahead.
const readBuffer = 256 << 10

// drainTime bounds how long Close waits for senders to end their connections.
const drainTime = 5 * time.Second

// Start makes a server listen.
func Start(opts Options) (*Server, error) {
	if Protocols[opts.Proto] == nil {
		return nil, fmt.Errorf("start a collector: there is no protocol %q here", opts.Proto)
	}
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("start a collector: %w", err)
	}
	s := &Server{opts: opts, addr: l.Addr().String(), l: l, conns: make(map[*net.TCPConn]bool)}
	s.wg.Go(func() { s.accept(l) })
	return s, nil
}

// Addr is where the server listens; start another one there to bring it back.
func (s *Server) Addr() string { return s.addr }

// URL is the server as the plugin's list of collectors wants it.
func (s *Server) URL() string {
	return fmt.Sprintf("%s://%s?name=%s&max-line=0&max-message=0", s.opts.Proto, s.Addr(), s.opts.Name)
}

// Name is the collector's name.
func (s *Server) Name() string { return s.opts.Name }

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Pause makes the server stop reading, with its connections open.
func (s *Server) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused == nil {
		s.paused = make(chan struct{})
	}
}

// Resume ends a Pause.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil {
		close(s.paused)
		s.paused = nil
	}
}

// Isolate makes the server look like one behind a network that is cut: what is
// connected stays so and is not read, and nobody else can connect.
func (s *Server) Isolate() error {
	s.Pause()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.l.Close(); err != nil {
		return fmt.Errorf("isolate a collector: %w", err)
	}
	return nil
}

// Rejoin ends an Isolate.
func (s *Server) Rejoin() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("let a collector join again: %w", err)
	}
	s.mu.Lock()
	s.l = l
	s.mu.Unlock()
	s.wg.Go(func() { s.accept(l) })
	s.Resume()
	return nil
}

// Held is how many bytes the kernel may hold at most that the server was sent
// and has not read: what a Reset now could lose.
func (s *Server) Held() (bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		bytes += readBuffer + receiveBuffer(c)
	}
	return bytes
}

// receiveBuffer is the size of a connection's buffer in the kernel.
func receiveBuffer(c *net.TCPConn) (bytes int64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err == nil {
			bytes = int64(n)
		}
	})
	return bytes
}

// Close stops as an orderly daemon does: it says that it will send nothing
// more, takes what still comes until the senders have ended their connections,
// for a few seconds at most, and is gone.
func (s *Server) Close() error {
	return s.stop(func(c *net.TCPConn) {
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(drainTime))
	})
}

// Reset stops as a crash does: nothing more is read, and every connection is
// reset. What the kernel had received for it and it had not read is lost.
func (s *Server) Reset() error {
	return s.stop(func(c *net.TCPConn) {
		_ = c.SetLinger(0)
		_ = c.Close()
	})
}

func (s *Server) stop(each func(*net.TCPConn)) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for c := range s.conns {
		each(c)
	}
	l := s.l
	s.mu.Unlock()
	s.Resume()
	var err error
	if first {
		if err = l.Close(); errors.Is(err, net.ErrClosed) {
			err = nil // it is isolated
		}
	}
	s.wg.Wait()
	return err
}

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		conn, ok := c.(*net.TCPConn)
		n := 0
		if ok {
			n = s.add(conn)
		}
		if n == 0 {
			c.Close()
			continue
		}
		go s.serve(conn, n)
	}
}

// add numbers a connection, or returns 0 where the server is closed.
func (s *Server) add(c *net.TCPConn) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	s.conns[c] = true
	s.stats.Connections++
	s.wg.Add(1)
	return s.stats.Connections
}

func (s *Server) serve(c *net.TCPConn, number int) {
	if s.opts.Proto == "relp" {
		number = 0
	}
	defer s.wg.Done()
	err := Protocols[s.opts.Proto](&session{server: s, number: number, conn: c, in: bufio.NewReaderSize(&gate{s, c}, readBuffer)})
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if broken(err) {
		s.stats.Errors++
		s.stats.LastError = err.Error()
	}
}

// broken tells a violation of the protocol from a connection that just ended.
func broken(err error) bool {
	var network net.Error
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.As(err, &network) &&
		!strings.Contains(err.Error(), "connection reset")
}

// session is one connection being served.
type session struct {
	server *Server
	number int
	conn   net.Conn
	in     *bufio.Reader
}

// record passes one on and counts it.
func (s *session) record(r Record) {
	r.Collector = s.server.opts.Name
	r.Received = time.Now()
	r.Connection = s.number
	if s.server.opts.Each != nil {
		s.server.opts.Each(r)
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.stats.Records++
	s.server.stats.Bytes += uint64(len(r.Line))
}

// gate holds up reading while the server is paused. What a read brought in
// before waits too.
type gate struct {
	s *Server
	c net.Conn
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.c.Read(p)
	g.s.mu.Lock()
	paused := g.s.paused
	g.s.mu.Unlock()
	if paused != nil {
		<-paused
	}
	return n, err
}

// Run serves until ctx ends, then closes in an orderly way.
func Run(ctx context.Context, opts Options, started func(*Server)) error {
	s, err := Start(opts)
	if err != nil {
		return err
	}
	started(s)
	<-ctx.Done()
	return s.Close()
}
