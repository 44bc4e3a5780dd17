package elastic

import (
	"bytes"
	"encoding/base64"
	"slices"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsontext"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// template makes an action and a document of each record of one stream.
type template struct {
	group  web.Group
	id     []byte    // in JSON, up to the offset
	source [2][]byte // from behind the time to the offset in event.id
	fields []byte    // from behind that to cut
	clock  stamp.Cache
	names  lifted.Names
}

func newTemplate(m *ship.Meta) *template {
	t := &template{
		clock: stamp.New(), group: web.Group{Stream: m.Stream, Container: m.ContainerName}, fields: fields(m),
		names: lifted.Names{Encode: appendName, Mark: '~'},
	}
	id, _ := jsontext.Append(nil, []byte(m.Stream))
	t.id = append(id, '-')
	for i, source := range [2]string{"stdout", "stderr"} {
		t.source[i] = append([]byte(`","stream":"`+source+`","event":{"id":"`), t.id...)
	}
	return t
}

func (t *template) Group() *web.Group { return &t.group }

// fields encodes what is the same for all records of a stream.
func fields(m *ship.Meta) []byte {
	dst := []byte(`"},`)
	dst = appendObject(dst, "host", ship.Attr{Key: "name", Value: m.Host})
	if m.Tag != "" {
		dst, _ = jsontext.Append(append(dst, `"tags":["`...), []byte(m.Tag))
		dst = append(dst, `"],`...)
	}
	image := appendObject(nil, "image", ship.Attr{Key: "name", Value: m.ImageName}, ship.Attr{Key: "id", Value: m.ImageID})
	container := appendObject(nil, "container", ship.Attr{Key: "id", Value: m.ContainerID}, ship.Attr{Key: "name", Value: m.ContainerName}, ship.Attr{Key: "runtime", Value: m.Engine})
	switch {
	case len(container) > 0:
		dst = append(append(append(dst, container[:len(container)-2]...), ','), image...)
		dst = append(dst[:len(dst)-1], "},"...)
	case len(image) > 0:
		dst = append(append(append(dst, `"container":{`...), image[:len(image)-1]...), "},"...)
	}
	dst = appendObject(dst, "process", ship.Attr{Key: "command_line", Value: m.Command})
	dst = appendObject(dst, "agent", ship.Attr{Key: "version", Value: m.Version})
	used := map[string]bool{}
	var labels []ship.Attr
	for _, a := range slices.Concat(m.Workload, m.Attrs) {
		labels = append(labels, ship.Attr{Key: lifted.Unique(used, string(appendName(nil, []byte(a.Key))), 0), Value: a.Value})
	}
	return appendObject(dst, "labels", labels...)
}

// appendObject appends an object under a key, and a comma; nothing where all
// values are empty.
func appendObject(dst []byte, key string, fields ...ship.Attr) []byte {
	start := len(dst)
	dst = append(append(append(dst, '"'), key...), `":{`...)
	empty := len(dst)
	for _, f := range fields {
		if f.Value != "" {
			dst = jsontext.AppendField(dst, f.Key, f.Value)
		}
	}
	if len(dst) == empty {
		return dst[:start]
	}
	return append(dst[:len(dst)-1], "},"...)
}

// Append implements ship.Template.
func (t *template) Append(dst []byte, r *ship.Record) []byte {
	source := t.source[0]
	if r.Stderr {
		source = t.source[1]
	}
	dst = append(append(dst, `{"create":{"_id":"`...), t.id...)
	dst = stamp.AppendOffset(dst, r.Offset)
	dst = append(dst, "\"}}\n{\"@timestamp\":\""...)
	at := r.Time
	if at < 0 {
		at = max(r.Stamped, 0)
	}
	dst = t.clock.AppendNano(dst, at)
	dst = stamp.AppendOffset(append(dst, source...), r.Offset)
	dst = append(dst, t.fields...)
	if r.Level != 0 {
		dst = append(append(append(dst, `"log":{"level":"`...), r.Level.String()...), `"},`...)
	}
	if len(r.Fields) > 0 {
		dst = t.appendLifted(dst, r.Fields)
	}
	if at != r.Time {
		dst = append(t.clock.AppendNano(append(dst, `"time":"`...), r.Time), `",`...)
	}
	if r.Cut {
		dst = append(dst, `"cut":true,`...)
	}
	dst, valid := jsontext.Append(append(dst, `"message":"`...), r.Line)
	if !valid {
		dst = append(dst, `","message_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, r.Line)
	}
	return append(dst, "\"}\n"...)
}

// appendLifted appends an object with what was lifted out of a line, and a comma.
// Numbers and booleans are such; arrays and objects are strings, because a name
// cannot be an object in one record and a value in another.
func (t *template) appendLifted(dst []byte, fields []ship.Field) []byte {
	dst = append(dst, `"fields":{`...)
	t.names.Reset()
	for i := range fields {
		f := &fields[i]
		dst, _ = jsontext.Append(append(dst, '"'), t.names.Next(f.Key))
		dst = append(dst, `":`...)
		if kind := lifted.Of(f).Kind; kind != lifted.Text {
			dst = append(append(dst, f.Value...), ',')
			continue
		}
		dst, _ = jsontext.Append(append(dst, '"'), f.Value)
		dst = append(dst, `",`...)
	}
	dst[len(dst)-1] = '}' // instead of the last comma
	return append(dst, ',')
}

// appendName appends a name with underscores for its dots, for with dots some
// would be objects and values at once; an empty one Elasticsearch refuses.
func appendName(dst, key []byte) []byte {
	from := len(dst)
	dst = lifted.AppendValid(dst, key)
	for i := from; i < len(dst); i++ {
		if dst[i] == '.' {
			dst[i] = '_'
		}
	}
	if len(bytes.TrimSpace(dst[from:])) == 0 {
		dst = append(dst, '_')
	}
	return dst
}
