package otlp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// TestConformanceGRPC plays the collector to the letter of gRPC's protocol over
// HTTP/2; TestReceiver, in test/sinks, is of a real one.
func TestConformanceGRPC(t *testing.T) {
	for _, tc := range []struct{ scheme, query string }{{"otlp+grpc", "compress=gzip"}, {"otlp+grpc+tls", ""}} {
		t.Run(tc.scheme, func(t *testing.T) {
			sinktest.RunHTTP(t, sinktest.HTTP{Scheme: tc.scheme, Query: tc.query, New: NewGRPC, Take: takeMessage, Play: play, Final500: true})
		})
	}
}

func takeMessage(r *http.Request, body []byte) ([]sinktest.Got, []byte, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/opentelemetry.proto.collector.logs.v1.LogsService/Export" ||
		r.Header.Get("Content-Type") != "application/grpc+proto" || r.Header.Get("Te") != "trailers" || !strings.HasPrefix(r.UserAgent(), "dockline-log") {
		return nil, nil, fmt.Errorf("%s %s with %v", r.Method, r.URL, r.Header)
	}
	r = r.Clone(r.Context())
	r.URL.Path = "/v1/logs"
	r.Header.Set("Content-Type", "application/x-protobuf")
	return take(r, body)
}

// play is a gRPC server (grpc/grpc doc/PROTOCOL-HTTP2.md).
func play(conn net.Conn, answer sinktest.Answer) {
	serveHTTP2(conn, func(w http.ResponseWriter, r *http.Request) {
		body, err := message(r)
		if err != nil {
			return // the connection was cut
		}
		if r.Host != conn.LocalAddr().String() {
			s := status.New(codes.InvalidArgument, "it names "+r.Host)
			setTrailer(w.Header(), s)
			return
		}
		r.ContentLength = int64(len(body))
		line, out := answer(r, body)
		s := statusOf(line, out)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
		if s.Code() == codes.OK {
			_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(out))), out...)) //nolint:gosec // short
		}
		setTrailer(w.Header(), s)
	})
}

// serveHTTP2 serves one connection until it ends.
func serveHTTP2(conn net.Conn, handler http.HandlerFunc) {
	only := &single{Conn: conn, ended: make(chan struct{})}
	only.accept.Store(true)
	s := &http.Server{Handler: handler, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	s.Protocols.SetUnencryptedHTTP2(true)
	_ = s.Serve(only)
}

// single is a listener of the one connection that it is.
type single struct {
	net.Conn
	accept atomic.Bool
	once   sync.Once
	ended  chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if s.accept.CompareAndSwap(true, false) {
		return s, nil
	}
	<-s.ended
	return nil, net.ErrClosed
}

func (s *single) Addr() net.Addr { return s.LocalAddr() }

func (s *single) Close() error {
	s.once.Do(func() { close(s.ended) })
	return s.Conn.Close()
}

func setTrailer(h http.Header, s *status.Status) {
	h.Set("Grpc-Status", strconv.Itoa(int(s.Code())))
	h.Set("Grpc-Message", url.PathEscape(s.Message()))
	if len(s.Details()) > 0 {
		b, _ := proto.Marshal(s.Proto())
		h.Set("Grpc-Status-Details-Bin", base64.StdEncoding.EncodeToString(b))
	}
}

// message reads the one message of a request.
func message(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		return nil, fmt.Errorf("%d bytes are not one message: % x", len(body), body[:min(len(body), 5)])
	}
	packed := r.Header.Get("Grpc-Encoding") == "gzip"
	if (body[0] == 1) != packed || body[0] > 1 {
		return nil, fmt.Errorf("compressed: %d, with encoding %q", body[0], r.Header.Get("Grpc-Encoding"))
	}
	if !packed {
		return body[5:], nil
	}
	zip, err := gzip.NewReader(strings.NewReader(string(body[5:])))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zip)
}

// statusOf is what gRPC has for the statuses of the suite, which stay in its text.
func statusOf(line string, body []byte) *status.Status {
	line, headers, _ := strings.Cut(line, "\n")
	code := map[string]codes.Code{
		"200": codes.OK, "400": codes.InvalidArgument, "401": codes.Unauthenticated, "413": codes.ResourceExhausted,
		"500": codes.Internal, "502": codes.Aborted, "503": codes.Unavailable,
	}[line[:3]]
	if code == codes.OK {
		return status.New(code, "")
	}
	if headers != "" {
		panic(headers)
	}
	return status.New(code, line+": "+string(body))
}

// TestStatuses: every code means what the OTLP specification says.
func TestStatuses(t *testing.T) {
	const small, large = 100, 1 << 20
	for _, tc := range []struct {
		code         codes.Code
		retry        time.Duration // of a RetryInfo, if there is one
		bytes        int
		taken        int    // bytes, before
		class        string // of what is refused
		busy, misfit bool
	}{
		{code: codes.Canceled}, {code: codes.DeadlineExceeded}, {code: codes.Aborted}, {code: codes.OutOfRange}, {code: codes.DataLoss},
		{code: codes.Unavailable, busy: true},
		{code: codes.Unavailable, busy: true, retry: 7 * time.Second},
		{code: codes.ResourceExhausted, busy: true, retry: time.Second, bytes: large},
		{code: codes.ResourceExhausted, busy: true, bytes: small},
		{code: codes.ResourceExhausted, class: web.TooLarge, bytes: large, taken: large - 1},
		{code: codes.ResourceExhausted, busy: true, bytes: large, taken: large},
		{code: codes.InvalidArgument, class: web.Invalid}, {code: codes.Internal, class: web.Invalid}, {code: codes.Unknown, class: web.Invalid},
		{code: codes.AlreadyExists, class: web.Invalid}, {code: codes.FailedPrecondition, class: web.Invalid},
		{code: codes.Unauthenticated, misfit: true}, {code: codes.PermissionDenied, misfit: true}, {code: codes.Unimplemented, misfit: true}, {code: codes.NotFound, misfit: true},
	} {
		s := status.New(tc.code, "said\r\nby the peer\x00")
		if tc.retry > 0 {
			with, err := s.WithDetails(&errdetails.ErrorInfo{}, &errdetails.RetryInfo{RetryDelay: durationpb.New(tc.retry)})
			if err != nil {
				t.Fatal(err)
			}
			s = with
		}
		r := judge(s, tc.bytes, tc.taken)
		want := tc.retry
		if tc.misfit {
			want = 30 * time.Second
		}
		if r.Doubtful != (tc.class == web.Invalid && tc.code != codes.InvalidArgument) {
			t.Errorf("%v: doubtful is %v", tc.code, r.Doubtful)
		}
		if r.Class != tc.class || (r.Err == nil) != (tc.class != "") || !strings.Contains(r.Said, tc.code.String()+": said by the peer") {
			t.Errorf("%v: %+v", tc.code, r)
		}
		if r.Err == nil {
			continue
		}
		var asks interface{ RetryAfter() time.Duration }
		if errors.Is(r.Err, ship.ErrBusy) != tc.busy || !errors.As(r.Err, &asks) || asks.RetryAfter() != want {
			t.Errorf("%v: %v after %v", tc.code, r.Err, asks.RetryAfter())
		}
	}
}

// What a collector says beside its status arrives: with a RetryInfo it is busy and
// comes back, without one it would never take as much. What it repeats of our
// login does not arrive.
func TestDetailsOfAStatus(t *testing.T) {
	asks, err := status.New(codes.ResourceExhausted, "no memory for sesame").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	addr := sinktest.Serve(t, func(c net.Conn, _ *bufio.Reader) {
		serveHTTP2(c, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
			setTrailer(w.Header(), asks)
		})
	})
	conn, tmpl := dialGRPC(t, addr, "header.x-token=sesame")
	if err := conn.Send(t.Context(), conn.Append(nil, tmpl, &ship.Record{Line: bytes.Repeat([]byte("x"), 2*leastTooLarge)})); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Wait(t.Context(), 0)
	var after interface{ RetryAfter() time.Duration }
	if !errors.Is(err, ship.ErrBusy) || !errors.As(err, &after) || after.RetryAfter() != 7*time.Second || strings.Contains(err.Error(), "sesame") {
		t.Errorf("%v, and %v is put aside", err, conn.(ship.Refuser).Refused())
	}
}

func TestURLsOfGRPC(t *testing.T) {
	for _, tc := range []struct{ url, err string }{
		{"otlp+grpc://h", ""}, {"otlp+grpc+tls://u:p@h:1?requests=32&compress=gzip&header.X-Scope=a&max-line=0", ""},
		{"otlp+grpc://h/v1/logs", "a path has no meaning"}, {"otlp+grpc://h?connections=2", "connections"}, {"otlp+grpc://h?requests=33", "1 to 32"},
		{"otlp+grpc://h?query.a=b", "query.a"}, {"otlp+grpc://h?header.grpc-timeout=1S", "not yours"}, {"otlp+grpc://h?header.a-bin=1", "not yours"},
		{"otlp+grpc://h?tls-ca=x", "TLS is not spoken"}, {"otlp+grpcs://h", "scheme"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewGRPC(u, sink.Host{})
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, want %q", tc.url, err, tc.err)
		}
	}
}

// TestNoGRPC: what is no gRPC server takes nothing, and says so.
func TestNoGRPC(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"another protocol": func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")) },
		"HTTP/1.1":         func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) },
		"ends":             func(c net.Conn) { _ = c.Close() },
		"a web server": func(c net.Conn) {
			serveHTTP2(c, http.NotFound)
		},
	} {
		conn, tmpl := dialGRPC(t, sinktest.Serve(t, func(c net.Conn, _ *bufio.Reader) {
			serve(c)
			_, _ = io.Copy(io.Discard, c)
		}))
		if err := conn.Send(t.Context(), conn.Append(nil, tmpl, &ship.Record{Line: []byte("x")})); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if acked, err := conn.Wait(ctx, 0); acked != 0 || err == nil || ctx.Err() != nil {
			t.Errorf("%s: acked %d, %v", name, acked, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
		cancel()
		_ = conn.Close()
	}
}

func dialGRPC(t *testing.T, addr string, params ...string) (ship.Conn, ship.Template) {
	t.Helper()
	s := sinktest.Open(t, NewGRPC, sinktest.Host(), "otlp+grpc://"+addr+"?"+strings.Join(params, "&"))
	return sinktest.Connect(t, s), s.Prepare(sinktest.Meta())
}
