// Package nats publishes records to a stream of JetStream, over the client
// protocol of NATS.
//
//	nats://[user@]host[:4222]?subject=logs.{host}    nats+tls://[user@]host[:4222]?subject=logs.{host}
//
// A pool is one cluster: its collectors are the servers that we may connect to,
// and one of them is chosen at random each time, so that many hosts spread over
// them. Where the stream is, its servers know. Parameters, beside those of all
// sinks:
//
//	subject        what the records are published to, with {placeholders}
//	format         json (as package jsonl has it) or line: the bytes as they are
//	headers        id, or all that is known of the record
//	inbox          what the subjects begin with that acknowledgements come to
//	password-file, token-file, nkey-file, creds-file
//	               a file with the user's password, a token, the seed of an nkey,
//	               a JWT and its seed
//	tls-first      on: TLS comes before the server's greeting. nats+tls only
//
// Each message has its record's id in Nats-Msg-Id, by which a stream tells what
// it has already; behind that of a piece is the size that it was cut for. A record is acknowledged when the stream says that it has it.
//
// The protocol is spoken here rather than by nats.go: a batch goes out as the
// bytes that templates made, and is acknowledged as a whole; nats.go takes
// messages one by one, buffers them and connects anew by itself. What it is used
// for are our tests.
package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/placeholder"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	defaultPort    = "4222"
	defaultInbox   = "_INBOX"
	defaultPayload = 1 << 20 // as servers have it, until one says otherwise
	// idRoom is left for what goes behind the id of a piece, in bytes.
	idRoom = 16
)

// cluster is the sink.
type cluster struct {
	*wire.Target // of the first server
	servers      []*wire.Target
	subject      placeholder.Template
	lines        bool // format=line
	allHeaders   bool
	inbox        string
	tlsFirst     bool
	login        login

	payload atomic.Int64 // bytes of a message that the server takes that was connected to last
	most    atomic.Int64 // that the stream takes, as far as is known; 0 for any
}

// New returns the sink for the cluster whose servers the URLs name; they differ in
// that alone.
func New(urls []*url.URL, host sink.Host) (ship.Sink, error) {
	var c *cluster
	for _, u := range urls {
		target, err := parse(u, host)
		if err != nil {
			return nil, err
		}
		if c == nil {
			c = &cluster{Target: target}
			c.payload.Store(defaultPayload)
		}
		c.servers = append(c.servers, target)
	}
	if err := c.parse(); err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", redact.URL(urls[0]), err)
	}
	return c, nil
}

func parse(u *url.URL, host sink.Host) (*wire.Target, error) {
	params := []string{"subject", "format", "headers", "inbox", "password-file", "token-file", "nkey-file", "creds-file"}
	if u.Scheme == "nats+tls" {
		params = append(params, "tls-first")
	}
	t, err := wire.ParseTarget(u, host, wire.Spec{
		Schemes: map[string]string{"nats": defaultPort, "nats+tls": defaultPort}, Web: true, Params: params,
	})
	if err != nil {
		return nil, err
	}
	if t.Path != "" && t.Path != "/" {
		return nil, fmt.Errorf("collector URL %s: a path has no meaning here: name the subject with ?subject=", redact.URL(u))
	}
	return t, nil
}

func (c *cluster) parse() (err error) {
	if c.subject, err = parseSubject(c.Params["subject"]); err != nil {
		return &options.ValueError{What: wire.ParamKind, Key: "subject", Value: c.Params["subject"], Err: err}
	}
	words := map[string]string{}
	for key, of := range map[string][]string{"format": {"json", "line"}, "headers": {"", "id", "all"}, "tls-first": {"off", "on"}} {
		if words[key], err = c.Choice(key, of...); err != nil {
			return err
		}
	}
	c.lines = words["format"] == "line"
	c.allHeaders = words["headers"] == "all" || words["headers"] == "" && c.lines
	c.tlsFirst = words["tls-first"] == "on"
	if c.inbox = c.Params["inbox"]; c.inbox == "" {
		c.inbox = defaultInbox
	}
	if err := checkSubject(c.inbox); err != nil || len(c.inbox) > maxInbox {
		return &options.ValueError{What: wire.ParamKind, Key: "inbox", Value: c.inbox, Err: errors.Join(err, fmt.Errorf("want the beginning of a subject, of at most %d bytes", maxInbox))}
	}
	c.login, err = parseLogin(c.Target)
	return err
}

// Limits: see BenchmarkThroughput. What is under way when a stream gets another
// leader may change its order, so it is no more than is of use; and a server keeps
// no more than 10,000 messages waiting for a stream, those of all who publish to it.
func (c *cluster) Limits() ship.Limits {
	most := c.payload.Load()
	if stream := c.most.Load(); stream > 0 {
		most = min(most, stream)
	}
	return ship.Limits{BatchBytes: 128 << 10, BatchRecords: 256, InFlight: 8, RecordBytes: c.MaxLine, MessageBytes: int(most) - idRoom}
}

// Prepare implements ship.Sink.
func (c *cluster) Prepare(m *ship.Meta) ship.Template { return newTemplate(c, m) }

// Check implements ship.Checker.
func (c *cluster) Check(m *ship.Meta) error { return c.subject.Check(m) }

// Dial connects to one of the servers, the first that answers of all in random
// order, and logs in.
func (c *cluster) Dial(ctx context.Context) (ship.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var failed []error
	for tried, i := range rand.Perm(len(c.servers)) {
		conn, err := c.dialWithin(ctx, c.servers[i], len(c.servers)-tried)
		if err == nil {
			return conn, nil
		}
		if len(c.servers) > 1 {
			err = fmt.Errorf("%s: %w", c.servers[i].Addr, err)
		}
		if failed = append(failed, err); ctx.Err() != nil {
			break
		}
	}
	if len(failed) == 1 {
		return nil, failed[0]
	}
	return nil, errors.Join(failed...)
}

// dialWithin leaves time for the servers behind one that does not answer, of so many
// with it.
func (c *cluster) dialWithin(ctx context.Context, server *wire.Target, servers int) (ship.Conn, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(servers))
		defer cancel()
	}
	conn, err := c.dial(ctx, server)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Subjects, in bytes. The server reads a line of 4096.
const (
	maxToken   = 128 // of what a placeholder stands for
	maxSubject = 2048
	maxInbox   = 256
)

func parseSubject(text string) (placeholder.Template, error) {
	if text == "" {
		return nil, errors.New("name the subject, such as subject=logs.{host}.{container_name}")
	}
	t, err := placeholder.Parse(text, checkText)
	if err != nil {
		return nil, err
	}
	// The longest that it can become.
	longest := t.Expand(&ship.Meta{}, token) + strings.Repeat(strings.Repeat("x", maxToken), strings.Count(text, "{"))
	if err := checkSubject(t.Expand(&ship.Meta{}, token)); err != nil {
		return nil, err
	}
	if len(longest) > maxSubject {
		return nil, fmt.Errorf("it could become longer than %d bytes", maxSubject)
	}
	return t, nil
}

// checkText refuses what no subject can have that is published to.
func checkText(s string) error {
	if i := strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '*' || c == '>' }); i >= 0 {
		return fmt.Errorf("a subject that is published to has no %q", s[i:i+1])
	}
	return nil
}

func checkSubject(s string) error {
	if strings.HasPrefix(s, "$") {
		return errors.New("subjects that begin with $ are the servers' own")
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" {
			return errors.New("there has to be something before, between and behind the dots")
		}
	}
	return checkText(s)
}

// token returns a value as what may be between two dots of a subject.
func token(value string) string {
	value = strings.Map(func(c rune) rune {
		if c <= ' ' || c == '.' || c == '*' || c == '>' || c == 0x7f || c == 0xfffd {
			return '_'
		}
		return c
	}, value)
	if len(value) > maxToken {
		value = value[:wire.RuneEnd([]byte(value), maxToken)]
	}
	return value
}
