// Package kafka produces records to the topics of a Kafka cluster, through
// github.com/twmb/franz-go.
//
//	kafka://[user@]host[:9092]?topic=logs    kafka+tls://[user@]host[:9092]?topic=logs
//
// A pool is one cluster: its collectors are the brokers that are asked for the
// others, and the key that ranks collectors elsewhere is the record's key here,
// which selects its partition as every Kafka client does (murmur2). Parameters,
// beside those of all sinks:
//
//	topic            where records go, with {placeholders}, see topic
//	create-topics    on: brokers are asked to create topics that there are not
//	format           json (as package jsonl has it) or line: the bytes as they are
//	headers          id, or all that is known of the record
//	compress         zstd, lz4, snappy, gzip or none
//	max-message      the largest message, in bytes, that the brokers take
//	                 (max.message.bytes); what would be larger is sent in pieces
//	sasl             scram-sha-512, scram-sha-256 or plain, where there is a user
//	password-file    a file with the user's password
//
// The producer is idempotent, and waits for all replicas in sync. A batch of
// ship's is produced as a whole, and the next one when that is done: brokers get
// it in few large requests, and nothing that follows a record in its partition is
// written before it. What fails is tried again in the same order, in halves until
// a record that brokers refuse is alone.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	defaultPort = "9092"
	// maxMessage is what brokers take where nobody has changed max.message.bytes,
	// less what they count in and clients do not.
	maxMessage = 1_000_012
)

// cluster is the sink.
type cluster struct {
	*wire.Target          // of the first broker
	seeds        []string // host:port
	secure       bool     // by TLS
	topic        topic
	lines        bool // format=line
	allHeaders   bool
	codec        kgo.CompressionCodec
	create       bool
	login        login

	trust   wire.Trust
	missing missing
	chunk   atomic.Int64 // bytes that are produced at once at most; less than a batch where brokers took no such
}

// New returns the sink for the cluster whose brokers the URLs name; they differ
// in that alone.
func New(urls []*url.URL, host sink.Host) (ship.Sink, error) {
	var c *cluster
	for _, u := range urls {
		target, err := parse(u, host)
		if err != nil {
			return nil, err
		}
		if c == nil {
			c = &cluster{Target: target, secure: strings.HasSuffix(u.Scheme, "+tls")}
		}
		c.seeds = append(c.seeds, target.Addr)
	}
	slices.Sort(c.seeds)
	c.chunk.Store(1 << 30)
	if err := c.parse(); err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", redact.URL(urls[0]), err)
	}
	return c, nil
}

func parse(u *url.URL, host sink.Host) (*wire.Target, error) {
	t, err := wire.ParseTarget(u, host, wire.Spec{
		Schemes: map[string]string{"kafka": defaultPort, "kafka+tls": defaultPort}, Web: true, MaxMessage: maxMessage,
		Params: []string{"topic", "create-topics", "format", "headers", "compress", "max-message", "sasl", "password-file"},
	})
	if err != nil {
		return nil, err
	}
	if t.Path != "" && t.Path != "/" {
		return nil, fmt.Errorf("collector URL %s: a path has no meaning here: name the topic with ?topic=", redact.URL(u))
	}
	return t, nil
}

func (c *cluster) parse() (err error) {
	if c.topic, err = parseTopic(c.Params["topic"]); err != nil {
		return &options.ValueError{What: wire.ParamKind, Key: "topic", Value: c.Params["topic"], Err: err}
	}
	words := map[string]string{}
	for key, of := range map[string][]string{
		"create-topics": {"off", "on"}, "format": {"json", "line"}, "headers": {"", "id", "all"}, "compress": {"zstd", "lz4", "snappy", "gzip", "none"},
	} {
		if words[key], err = c.Choice(key, of...); err != nil {
			return err
		}
	}
	c.create, c.lines = words["create-topics"] == "on", words["format"] == "line"
	c.allHeaders = words["headers"] == "all" || words["headers"] == "" && c.lines
	c.codec = codecs()[words["compress"]]
	if err := c.checkSize(); err != nil {
		return err
	}
	c.login, err = parseLogin(c.Target)
	return err
}

func codecs() map[string]kgo.CompressionCodec {
	return map[string]kgo.CompressionCodec{
		"zstd": kgo.ZstdCompression(), "lz4": kgo.Lz4Compression(), "snappy": kgo.SnappyCompression(),
		"gzip": kgo.GzipCompression(), "none": kgo.NoCompression(),
	}
}

// mostMessage is what max-message may be: more than any line that ship reads.
const mostMessage = 256 << 20

func (c *cluster) checkSize() error {
	if c.MaxMessage == 0 || c.MaxMessage > mostMessage {
		return &options.ValueError{What: wire.ParamKind, Key: "max-message", Value: c.Params["max-message"], Err: fmt.Errorf("not within 1k to %dm", mostMessage>>20)}
	}
	return nil
}

// Limits: see BenchmarkThroughput. One batch is there already when the one before
// it is done.
func (c *cluster) Limits() ship.Limits {
	return ship.Limits{BatchBytes: 1 << 20, BatchRecords: 8192, InFlight: 2, RecordBytes: c.MaxLine, MessageBytes: c.MaxMessage}
}

// Prepare implements ship.Sink.
func (c *cluster) Prepare(m *ship.Meta) ship.Template { return newTemplate(c, m) }

// Check implements ship.Checker.
func (c *cluster) Check(m *ship.Meta) error { return c.topic.Check(m) }

// Dial connects to one broker, which says who the others are, and logs in.
func (c *cluster) Dial(ctx context.Context) (ship.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := newConn(c)
	if err != nil {
		return nil, err
	}
	if err := conn.client.Ping(ctx); err != nil {
		err = c.explain(conn.link, err)
		return nil, errors.Join(fmt.Errorf("connect to the cluster: %w", err), conn.Close())
	}
	conn.start()
	return conn, nil
}

// explain says what to do about an error of connecting.
func (c *cluster) explain(l *link, err error) error {
	var early *kgo.ErrFirstReadEOF // which says itself what it may be
	switch explained := l.explain(err); {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no broker answers in time: %w", explained)
	case c.login.mechanism != "" && errors.Is(err, io.EOF) && !errors.As(err, &early):
		return &Error{Err: explained, Advice: "the brokers end the connection while we log in: are user and password the right ones?"}
	default:
		return explained
	}
}
