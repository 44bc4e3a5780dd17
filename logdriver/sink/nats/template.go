package nats

import (
	"strconv"
	"strings"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsonline"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

const (
	// maxHead is how large the headers may be: JetStream keeps no more than 64 KiB,
	// and the server that takes them reads fewer.
	maxHead = 32 << 10
	begin   = "NATS/1.0\r\nNats-Msg-Id: "
)

// template makes the messages of one stream's records: headers and payload.
type template struct {
	subject           string
	stream, container string
	first             []byte // up to the offset in the id
	headers           []byte // of all records; nil where they have no more than the id
	json              *jsonline.Template
	fields            jsonline.Fields
	lines             bool
	head              int // length of the headers of the last message

	piece int // for which size of a message the record that is appended was cut; 0 where it is whole
	clock stamp.Cache
}

func newTemplate(c *cluster, m *ship.Meta) *template {
	t := &template{
		subject: ours(c.subject.Expand(m, token)), stream: m.Stream, container: m.ContainerName,
		first: append([]byte(begin), value(m.Stream)+"-"...), json: jsonline.New(m), fields: jsonline.NewFields(), lines: c.lines, clock: stamp.New(),
	}
	if c.allHeaders {
		if t.headers = headers(m); len(t.headers) > maxHead {
			t.headers, t.lines = nil, false // there is room in the payload
		}
	}
	return t
}

// ours returns a subject that is none of the servers' own, whatever a container says.
func ours(subject string) string {
	if strings.HasPrefix(subject, "$") {
		subject = "_" + subject[1:]
	}
	return subject
}

// headers are those that are the same for all records of a stream.
func headers(m *ship.Meta) []byte {
	// A container must not forge anything of ours.
	used := map[string]bool{"time": true, "source": true, "level": true, "fields": true, "cut": true, "format": true}
	for _, f := range field.All() {
		used[f.Name] = true
	}
	all := []byte{}
	for _, f := range m.Fields() {
		all = append(all, f.Key+": "+value(f.Value)+"\r\n"...)
	}
	for _, a := range m.Attrs {
		all = append(all, lifted.Unique(used, name(a.Key), 0)+": "+value(a.Value)+"\r\n"...)
	}
	return all
}

// name returns a key as the name of a header, which is not one that the servers
// take for an order.
func name(key string) string {
	key = strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' || c == ':' {
			return '_'
		}
		return c
	}, key)
	if key == "" || len(key) >= 5 && strings.EqualFold(key[:5], "nats-") {
		key = "_" + key
	}
	return key
}

// value returns text as the value of a header: on one line.
func value(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
}

// Append implements ship.Template.
func (t *template) Append(dst []byte, r *ship.Record) []byte {
	start := len(dst)
	dst = stamp.AppendOffset(append(dst, t.first...), r.Offset)
	if t.piece > 0 {
		dst = strconv.AppendInt(append(dst, '/'), int64(t.piece), 10)
	}
	dst = append(dst, "\r\n"...)
	id := len(dst)
	lines := t.lines
	if t.headers != nil {
		if dst = t.appendHeaders(dst, r); len(dst)-start > maxHead {
			dst, lines = append(dst[:id], "format: json\r\n"...), false
		}
	}
	dst = append(dst, "\r\n"...)
	t.head = len(dst) - start
	if lines {
		return append(dst, r.Line...)
	}
	return t.json.Append(dst, r)
}

func (t *template) appendHeaders(dst []byte, r *ship.Record) []byte {
	dst = t.clock.AppendNano(append(dst, "time: "...), r.Time)
	source := "\r\nsource: stdout\r\n"
	if r.Stderr {
		source = "\r\nsource: stderr\r\n"
	}
	dst = append(append(dst, source...), t.headers...)
	if r.Level != 0 {
		dst = append(append(append(dst, "level: "...), r.Level.String()...), "\r\n"...)
	}
	if len(r.Fields) > 0 && t.lines {
		dst = append(t.fields.Append(append(dst, "fields: "...), r.Fields), "\r\n"...)
	}
	if r.Cut {
		dst = append(dst, "cut: true\r\n"...)
	}
	return dst
}
