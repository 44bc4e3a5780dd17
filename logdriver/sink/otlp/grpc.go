package otlp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dockline/dockline/logdriver/sink/internal/web"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	grpcBuffer = 64 << 10
	maxHeaders = 64 << 10
	// someBytes is what is written at once of a request that makes headway, rather
	// than in answer to the collector's pings.
	someBytes = 512
)

// carrier exports by gRPC, over one HTTP/2 connection.
type carrier struct {
	channel *grpc.ClientConn
	timeout time.Duration
	header  metadata.MD
	options []grpc.CallOption
	moved   atomic.Int64          // when a request made headway last, in nanoseconds since 1970
	broken  atomic.Pointer[error] // what ended a connection last
	largest *atomic.Int64         // message that the collector has taken, in bytes
}

func newCarrier(c *web.Collector, secure bool) web.NewCarrier {
	largest := new(atomic.Int64)
	return func(header http.Header, dial func(context.Context) (net.Conn, error)) web.Carrier {
		k := &carrier{largest: largest, timeout: c.Timeout, header: metadata.MD{}, options: []grpc.CallOption{grpc.ForceCodecV2(raw{})}}
		for key, values := range header {
			if key := strings.ToLower(key); key != "content-type" && key != "content-encoding" && key != "user-agent" {
				k.header[key] = values
			}
		}
		k.connect(c, secure, dial)
		return k
	}
}

// connect makes the channel, which connects with the first request.
func (k *carrier) connect(c *web.Collector, secure bool, dial func(context.Context) (net.Conn, error)) {
	creds := insecure.NewCredentials()
	if secure {
		creds = secured{}
	}
	options := []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := dial(ctx)
			if err != nil {
				k.broken.Store(&err)
				return nil, err
			}
			return &link{conn, k}, nil
		}),
		grpc.WithTransportCredentials(creds), grpc.WithAuthority(c.Addr), grpc.WithUserAgent("dockline-log"),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithDisableHealthCheck(), grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxHeaders), grpc.WithReadBufferSize(grpcBuffer / 4), grpc.WithWriteBufferSize(grpcBuffer), grpc.WithNoProxy(),
		grpc.WithDecompressor(unzipper{}), //nolint:staticcheck // see zipper
	}
	if c.Encoding() == "gzip" {
		options = append(options, grpc.WithCompressor(new(zipper))) //nolint:staticcheck // see zipper
	}
	channel, err := grpc.NewClient("passthrough:///collector", options...)
	if err != nil {
		panic(err) // the options exclude each other
	}
	k.channel = channel
}

func (k *carrier) Close() error { return k.channel.Close() }

// Post implements web.Carrier.
func (k *carrier) Post(ctx context.Context, body []byte) (*web.Reply, error) {
	ctx, cancel := context.WithCancelCause(metadata.NewOutgoingContext(ctx, k.header))
	defer cancel(nil)
	defer k.watch(func() { cancel(&wire.StalledError{For: k.timeout}) })()
	var answer []byte
	var header, trailer metadata.MD
	err := k.channel.Invoke(ctx, collogs.LogsService_Export_FullMethodName, body, &answer,
		append(k.options[:len(k.options):len(k.options)], grpc.Header(&header), grpc.Trailer(&trailer))...)
	switch {
	case err == nil:
		k.took(int64(len(body)))
		return &web.Reply{Body: answer}, nil
	case context.Cause(ctx) != nil:
		return nil, context.Cause(ctx)
	case len(header)+len(trailer) > 0: // so that the status is the collector's
		said := status.Convert(err).Proto() // a copy, with the details that judge looks at
		said.Message = web.Hide(said.GetMessage(), http.Header(k.header), "")
		return judge(status.FromProto(said), len(body), int(k.largest.Load())), nil
	}
	if broken := k.broken.Load(); broken != nil {
		return nil, *broken
	}
	return nil, errors.New(web.Clean([]byte(status.Convert(err).Message())))
}

// took notes that the collector has taken a message of so many bytes.
func (k *carrier) took(bytes int64) {
	for most := k.largest.Load(); bytes > most && !k.largest.CompareAndSwap(most, bytes); most = k.largest.Load() {
	}
}

// watch calls stalled when nothing has moved for as long as the timeout, unless
// what it returns is called before.
func (k *carrier) watch(stalled func()) (stop func()) {
	began := time.Now()
	ended := make(chan struct{})
	timer := time.NewTimer(k.timeout)
	go func() {
		defer timer.Stop()
		for {
			select {
			case <-ended:
				return
			case <-timer.C:
			}
			last := time.Unix(0, k.moved.Load())
			if last.Before(began) {
				last = began
			}
			rest := k.timeout - time.Since(last)
			if rest <= 0 {
				stalled()
				return
			}
			timer.Reset(rest)
		}
	}()
	return func() { close(ended) }
}

// link is a connection that tells how it fares.
type link struct {
	net.Conn
	owner *carrier
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.note(err)
	return n, err
}

func (l *link) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if n >= someBytes {
		l.owner.moved.Store(time.Now().UnixNano())
	}
	l.note(err)
	return n, err
}

func (l *link) note(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.owner.broken.Store(&err)
	}
}

// secured stands for the TLS that the connections have already.
type secured struct{}

type securedInfo struct{ credentials.CommonAuthInfo }

func (securedInfo) AuthType() string { return "tls" }

func (secured) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, securedInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (secured) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

func (secured) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (s secured) Clone() credentials.TransportCredentials { return s }

func (secured) OverrideServerName(string) error { return errors.ErrUnsupported }

// raw is the codec of messages that are encoded already.
type raw struct{}

func (raw) Name() string { return "proto" }

// Marshal copies: the transport may hold on to a message longer than its request.
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.Copy(v.([]byte), mem.DefaultBufferPool())}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
