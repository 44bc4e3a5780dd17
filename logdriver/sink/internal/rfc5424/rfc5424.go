// Package rfc5424 encodes records as syslog messages (RFC 5424), without
// framing: what the syslog and RELP sinks send.
//
// One structured data element, dockline@32473, says where a record comes from:
//
//	id              record id, <stream>-<number>, the same when sent again
//	container_id    all 64 digits
//	container_name, image_name, image_id
//	source          stdout or stderr
//	compose_project… what the container is part of, see field.All
//	…               the attributes that were asked for
//	cut             "true" where the record is one piece of a longer line
//
// A second one, fields@32473, has what was lifted out of the line, if something
// was. The severity is the one that the application gives the record, if it does.
//
// A parameter that has no value is left out. MSG is the line as it was
// written, whatever its encoding, without a BOM.
package rfc5424

import (
	"bytes"
	"strconv"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

// elementID is the SD-ID. Names without @ are IANA's; the number is a private
// enterprise number. 32473 is reserved for examples (RFC 5612), so that ours
// can clash with no vendor's as long as there is none of our own.
const (
	elementID = "dockline@32473"
	fieldsID  = "fields@32473"
)

// Severities of RFC 5424 section 6.2.1, chosen by source as the engine's own
// driver does (daemon/logger/syslog).
const (
	severityErr  = 3
	severityInfo = 6
)

// Limits of RFC 5424 section 6.
const (
	maxHostname = 255
	maxAppName  = 48
	maxParam    = 32
)

// shortID is how many digits of a container id people see.
const shortID = 12

// Template makes messages of one stream's records.
type Template struct {
	head  [8][]byte // up to TIMESTAMP, by severity
	mid   []byte    // from behind TIMESTAMP to the offset in the id
	tail  [2][]byte // from behind the offset, without the element's ]
	clock stamp.Cache
	names lifted.Names

	most    int    // bytes of a message; 0 for no bound
	scratch []byte // of Measure
}

// maxStructured bounds the structured data of a message. rsyslog counts it in 16
// bits, and forgets the rest of what is longer (lenStrucData in runtime/msg.h).
const maxStructured = 60 << 10

// New prepares messages of the stream m, with a facility of 0 to 23, of which each
// may have so many bytes, 0 for any number.
func New(m *ship.Meta, facility, most int) *Template {
	t := &Template{clock: stamp.New(), mid: mid(m), most: most, names: lifted.Names{Encode: appendName, Mark: '~', Max: maxParam}}
	for severity := range t.head {
		t.head[severity] = append(strconv.AppendInt([]byte{'<'}, int64(facility*8+severity), 10), ">1 "...)
	}
	t.tail[0] = tail(m, "stdout")
	t.tail[1] = tail(m, "stderr")
	return t
}

// mid is HOSTNAME, APP-NAME, PROCID, MSGID and the first half of the id.
func mid(m *ship.Meta) []byte {
	app := m.Tag
	if app == "" {
		app = m.ContainerName
	}
	dst := []byte{' '}
	for _, field := range []string{
		Field(m.Host, maxHostname), Field(app, maxAppName), Field(m.ContainerID, shortID), "-",
	} {
		dst = append(append(dst, field...), ' ')
	}
	dst = append(dst, "["+elementID+` id="`...)
	return append(appendValue(dst, m.Stream), '-')
}

// tail is the rest of the element.
func tail(m *ship.Meta, source string) []byte {
	dst := []byte{'"'}
	own := []ship.Attr{
		{Key: "container_id", Value: m.ContainerID}, {Key: "container_name", Value: m.ContainerName},
		{Key: "image_name", Value: m.ImageName}, {Key: "image_id", Value: m.ImageID}, {Key: "source", Value: source},
	}
	for _, a := range own {
		if a.Value != "" {
			dst = appendParam(dst, a.Key, a.Value)
		}
	}
	for _, a := range m.Workload {
		dst = appendParam(dst, a.Key, a.Value)
	}
	return appendAttrs(dst, m.Attrs)
}

// Append implements ship.Template.
func (t *Template) Append(dst []byte, r *ship.Record) []byte {
	source := 0
	if r.Stderr {
		source = 1
	}
	dst = append(dst, t.head[Severity(r)]...)
	dst = t.clock.AppendMicro(dst, r.Time)
	dst = append(dst, t.mid...)
	dst = stamp.AppendOffset(dst, r.Offset)
	dst = append(dst, t.tail[source]...)
	if r.Cut {
		dst = append(dst, ` cut="true"`...)
	}
	dst = append(dst, ']')
	if len(r.Fields) > 0 {
		dst = t.appendFields(dst, r.Fields)
	}
	return append(append(dst, ' '), r.Line...)
}

// Measure implements ship.Measurer: what counts is the message, and its structured
// data, of which there may be less.
func (t *Template) Measure(r *ship.Record) int {
	t.scratch = t.Append(t.scratch[:0], r)
	return t.Weigh(len(t.scratch), len(t.Structured(t.scratch, r)))
}

// Growth implements ship.Grower: a byte of a value is at most four in a message.
func (t *Template) Growth() int { return 8 + 4*t.most/maxStructured }

// Structured returns the part of a record's message that is structured data.
func (t *Template) Structured(message []byte, r *ship.Record) []byte {
	at := bytes.Index(message, []byte(" ["+elementID))
	return message[at+1 : len(message)-1-len(r.Line)]
}

// Weigh returns what a message counts that has so many bytes, with so many in its
// structured data.
func (t *Template) Weigh(message, structured int) int {
	return max(message, int(int64(structured)*int64(t.most)/maxStructured))
}

// Severity returns the severity of a record.
func Severity(r *ship.Record) int {
	switch {
	case r.Level != 0:
		return r.Level.Severity()
	case r.Stderr:
		return severityErr
	}
	return severityInfo
}
