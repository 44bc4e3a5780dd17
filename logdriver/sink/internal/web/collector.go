package web

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// maxConnections bounds the parameter connections.
const maxConnections = 32

// Spec says what the URLs of a sink hold, and how it likes its batches.
type Spec struct {
	Names   []string          // of its schemes, before +http and +https
	Schemes map[string]string // others, with their ports
	ALPN    []string          // see wire.Spec
	Port    string            // where the URL names none; "" for HTTP's own
	Path    string            // where the URL names none
	Params  []string          // beside those that all have
	MaxLine int               // see wire.Spec
	// Connections is how many requests are under way at once, where the URL does
	// not say. With more than one, batches may overtake each other.
	Connections int
	// Ordered says that batches with records of the same stream are never under way
	// together.
	Ordered bool
	// Final are statuses, beside those of all, by which the protocol says that a
	// request will never be taken as it is. Others say so when they are down, so that
	// it is not believed of a collector that takes nothing else either.
	Final []int
	// Carried says that requests go by a Carrier, all over one connection: the
	// parameter is requests rather than connections, and a path means nothing.
	Carried bool
	Bytes   int // of a batch
	Records int // of a batch
	Packed  bool
	// APIKey is the scheme of Authorization by which keys are shown, "" for none.
	APIKey string
}

// Collector is a checked collector URL, and what was learnt of the collector.
// A sink adds Prepare to it.
type Collector struct {
	*wire.Target
	Format Format
	Header http.Header // of every request; read only once there are connections
	Carry  NewCarrier  // nil: by HTTP/1.1

	path        string // with the query, as it is sent
	authority   string // as the header Host has it
	login       login
	encoding    string // "gzip", "snappy" or ""
	spec        Spec
	connections int
	bytes       atomic.Int64  // that batches may have: less than the spec's, where the collector took no such
	isolate     time.Duration // see troubles; 0: never
	troubles    troubles
	witness     witness
}

// Parse checks u. The sink adds the Format.
func Parse(u *url.URL, host sink.Host, spec Spec) (*Collector, error) {
	schemes := maps.Clone(spec.Schemes)
	if schemes == nil {
		schemes = map[string]string{}
	}
	for _, name := range spec.Names {
		schemes[name+"+http"], schemes[name+"+https"] = spec.Port, spec.Port
		if spec.Port == "" {
			schemes[name+"+http"], schemes[name+"+https"] = "80", "443"
		}
	}
	params := append([]string{spec.concurrency(), "header.", "password-file", "token-file", "isolate-after"}, spec.Params...)
	if !spec.Carried {
		params = append(params, "query.")
	} else if u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("collector URL %s: a path has no meaning here", redact.URL(u))
	}
	if spec.APIKey != "" {
		params = append(params, "api-key-file")
	}
	if !spec.Packed {
		params = append(params, "compress")
	}
	target, err := wire.ParseTarget(u, host, wire.Spec{Schemes: schemes, Params: params, MaxLine: spec.MaxLine, ALPN: spec.ALPN, Web: true})
	if err != nil {
		return nil, err
	}
	c := &Collector{Target: target, spec: spec, connections: spec.Connections, Header: http.Header{}, authority: authority(u.Scheme, target.Addr)}
	c.bytes.Store(int64(spec.Bytes))
	if err := c.parse(); err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", redact.URL(u), err)
	}
	return c, nil
}

// concurrency is the parameter that says how many requests are under way at once.
func (s *Spec) concurrency() string {
	if s.Carried {
		return "requests"
	}
	return "connections"
}

func (c *Collector) parse() (err error) {
	key := c.spec.concurrency()
	if text, given := c.Params[key]; given {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxConnections {
			return &options.ValueError{What: wire.ParamKind, Key: key, Value: text, Err: fmt.Errorf("not within 1 to %d", maxConnections)}
		}
		c.connections = n
	}
	if c.isolate, err = c.Duration("isolate-after", defaultIsolate, 0, maxIsolate); err != nil {
		return err
	}
	if c.spec.Packed {
		c.encoding = "snappy"
	} else if word, err := c.Choice("compress", "none", "gzip"); err != nil {
		return err
	} else if word != "none" {
		c.encoding = word
	}
	if c.login, err = parseLogin(c.Target, c.spec.APIKey); err != nil {
		return err
	}
	return c.parseRequest()
}

// own are the headers that are ours to set.
var own = []string{"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Trailer", "Transfer-Encoding", "Upgrade"} //nolint:gochecknoglobals // a table

// reserved are the headers that are gRPC's, or would be encoded by it.
func reserved(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "grpc-") || strings.HasSuffix(name, "-bin") || name == "te" || name == "user-agent"
}

// parseRequest puts together what all requests have in common.
func (c *Collector) parseRequest() error {
	c.path = c.Path
	if c.path == "" || c.path == "/" {
		c.path = c.spec.Path
	}
	query := url.Values{}
	for key, value := range c.Params {
		if name, ok := strings.CutPrefix(key, "query."); ok {
			query.Set(name, value)
		}
		name, ok := strings.CutPrefix(key, "header.")
		if !ok {
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return &options.ValueError{What: wire.ParamKind, Key: key, Value: "…", Err: errors.New("not a header of HTTP")}
		}
		for _, ours := range own {
			if strings.EqualFold(name, ours) || c.spec.Carried && reserved(name) {
				return &options.ValueError{What: wire.ParamKind, Key: key, Value: "…", Err: errors.New("this header is not yours to set; for Authorization there are token-file and password-file")}
			}
		}
		c.Header.Set(name, value)
	}
	c.AddQuery(query)
	return nil
}

// Encoding is what bodies are compressed with; "" for nothing.
func (c *Collector) Encoding() string { return c.encoding }

// AddQuery adds to the query of every request.
func (c *Collector) AddQuery(query url.Values) {
	if len(query) == 0 {
		return
	}
	sign := "?"
	if strings.Contains(c.path, "?") {
		sign = "&"
	}
	c.path += sign + query.Encode()
}

// Below puts a path below the one of the URL.
func (c *Collector) Below(path string) {
	before, query, asked := strings.Cut(c.path, "?")
	c.path = strings.TrimSuffix(before, "/") + path
	if asked {
		c.path += "?" + query
	}
}

// authority is the host as the header has it: without a port that is HTTP's own.
func authority(scheme, addr string) string {
	if strings.HasSuffix(scheme, "+https") {
		return strings.TrimSuffix(addr, ":443")
	}
	return strings.TrimSuffix(addr, ":80")
}

// Limits implements ship.Sink: one batch more than there are connections is there
// already when a request ends.
func (c *Collector) Limits() ship.Limits {
	return ship.Limits{BatchBytes: int(c.bytes.Load()), BatchRecords: c.spec.Records, InFlight: c.connections + 1, RecordBytes: c.MaxLine, MessageBytes: c.MaxMessage}
}

// Dial connects, and has the files read by which we log in.
func (c *Collector) Dial(ctx context.Context) (ship.Conn, error) {
	auth, err := c.login.header(c.Host)
	if err != nil {
		return nil, err
	}
	first, err := c.Target.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(c, auth, first), nil
}

// leastBytes is the smallest size of batches that is learnt.
const leastBytes = 32 << 10

// tooLarge is for a body that the collector did not take for its size.
func (c *Collector) tooLarge(bytes int) {
	c.bytes.Store(min(c.bytes.Load(), int64(max(bytes/2, leastBytes))))
}

// giveUp is for how long records that a collector is too busy for are tried again
// on a connection.
const giveUp = 10 * time.Second
