package docs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/snappy"
	"github.com/tinylib/msgp/msgp"
	"github.com/twmb/franz-go/pkg/kgo"
	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dockline/dockline/test/docs"
)

// captor notes records as they come, for the page that shows them. A record is
// known by its protocol, the anchor of the page's section.
type captor struct{ inbox *inbox }

func (c captor) takes(protocol, record string) {
	c.inbox.add(letter{collector: protocol, line: record})
}

// spread puts JSON on several lines.
func spread(record []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, record, "", "  "); err != nil {
		return string(record)
	}
	return b.String()
}

// captured compares what a page shows of a record with what came.
func (w *world) captured(b docs.Block) {
	w.Helper()
	ctx, cancel := context.WithTimeoutCause(w.Context(), arriveTime, errors.New("no record comes"))
	defer cancel()
	for {
		l, ok, next := w.inbox.find(func(l letter) bool { return l.collector == b.Section })
		if ok {
			w.prints(b, l.line)
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			w.Fatalf("%s: %v", b.Place(), context.Cause(ctx))
		}
	}
}

// captors listen where the page has its pools.
func (w *world) captors() {
	w.Helper()
	c := captor{w.inbox}
	w.stream("10.0.0.11:601", octets("syslog"))
	w.stream("10.0.0.11:602", octets("syslog-the-old-way"))
	w.stream("10.0.0.11:5170", until("json-lines", '\n'))
	w.stream("10.0.0.11:12201", until("gelf", 0))
	w.stream("10.0.0.11:24224", forwarded)
	w.serve("10.0.0.11:9200", http.HandlerFunc(c.bulk))
	w.serve("10.0.0.11:3100", http.HandlerFunc(c.pushed))
	w.serve("10.0.0.11:4318", http.HandlerFunc(c.exported))
}

// stream serves connections of a protocol without answers, or with its own.
func (w *world) stream(addr string, serve func(captor, *bufio.Reader, net.Conn) error) {
	w.Helper()
	ln := w.listen(addr)
	w.until(ln.Close)
	c := captor{w.inbox}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for serve(c, r, conn) == nil {
				}
			}()
		}
	}()
}

// octets reads a message that its length stands before (RFC 6587, 3.4.1).
func octets(protocol string) func(captor, *bufio.Reader, net.Conn) error {
	return func(c captor, r *bufio.Reader, _ net.Conn) error {
		length, err := r.ReadString(' ')
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil {
			return err
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			return err
		}
		c.takes(protocol, string(message))
		return nil
	}
}

func until(protocol string, end byte) func(captor, *bufio.Reader, net.Conn) error {
	return func(c captor, r *bufio.Reader, _ net.Conn) error {
		record, err := r.ReadBytes(end)
		if err == nil {
			c.takes(protocol, spread(record[:len(record)-1]))
		}
		return err
	}
}

// forwarded reads a message in PackedForward mode, and acknowledges it.
func forwarded(c captor, r *bufio.Reader, conn net.Conn) error {
	m := msgp.NewReader(r)
	if n, err := m.ReadArrayHeader(); err != nil || n != 3 {
		return fmt.Errorf("no message: %d, %w", n, err)
	}
	tag, err := m.ReadString()
	if err != nil {
		return err
	}
	packed, err := m.ReadBytes(nil)
	if err != nil {
		return err
	}
	options := map[string]any{}
	if err := m.ReadMapStrIntf(options); err != nil {
		return err
	}
	for len(packed) > 0 {
		if _, packed, err = msgp.ReadArrayHeaderBytes(packed); err != nil {
			return err
		}
		if packed, err = msgp.Skip(packed); err != nil { // the time
			return err
		}
		var record any
		if record, packed, err = msgp.ReadIntfBytes(packed); err != nil {
			return err
		}
		text, err := json.MarshalIndent(record, "", "  ")
		if err != nil {
			return err
		}
		c.takes("fluentd-forward", tag+"\n"+string(text))
	}
	_, err = conn.Write(msgp.AppendString(msgp.AppendString(msgp.AppendMapHeader(nil, 1), "ack"), options["chunk"].(string)))
	return err
}

func (c captor) bulk(rw http.ResponseWriter, r *http.Request) {
	lines := bufio.NewScanner(r.Body)
	items := []any{}
	for lines.Scan() {
		action := lines.Text()
		lines.Scan()
		c.takes("elasticsearch", action+"\n"+spread(lines.Bytes()))
		items = append(items, map[string]any{"create": map[string]any{"status": 201}})
	}
	reply(rw, http.StatusOK, map[string]any{"errors": false, "items": items})
}

func (c captor) pushed(rw http.ResponseWriter, r *http.Request) {
	var request push.PushRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	if err == nil {
		err = request.Unmarshal(body)
	}
	for _, s := range request.Streams {
		for _, e := range s.Entries {
			metadata := map[string]string{}
			for _, m := range e.StructuredMetadata {
				metadata[m.Name] = m.Value
			}
			record, _ := json.MarshalIndent(metadata, "", "  ") // text can always be
			c.takes("loki", s.Labels+"\n"+e.Line+"\n"+string(record))
		}
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}

func (c captor) exported(rw http.ResponseWriter, r *http.Request) {
	var request logspb.ExportLogsServiceRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	record, err := protojson.Marshal(&request)
	var compact bytes.Buffer // protojson's blanks change from one build to the next
	if err == nil {
		err = json.Compact(&compact, record)
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	c.takes("opentelemetry", attribute.ReplaceAllString(spread(compact.Bytes()), `{ "key": $1, "value": { "$2": $3 } }`))
	rw.Header().Set("Content-Type", "application/x-protobuf")
	rw.WriteHeader(http.StatusOK)
}

// attribute is one of OTLP's, which take eight lines otherwise.
var attribute = regexp.MustCompile(`\{\s+"key": (".*"),\s+"value": \{\s+"(\w+)": (.*)\s+\}\s+\}`)

// consumed notes what is in a topic.
func (w *world) consumed(ctx context.Context, dial dialKafka, topic string) {
	client, err := dial(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.Fatal(err)
	}
	c := captor{w.inbox}
	go func() {
		defer client.Close()
		for ctx.Err() == nil {
			for _, r := range client.PollFetches(ctx).Records() {
				var headers []string
				for _, h := range r.Headers {
					headers = append(headers, h.Key+"="+string(h.Value))
				}
				c.takes("kafka", fmt.Sprintf("%s\n%s\n%s", r.Key, strings.Join(headers, " "), spread(r.Value)))
			}
		}
	}()
}
