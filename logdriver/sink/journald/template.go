package journald

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

const (
	maxName = 64 // bytes that a field's name may have
	// maxOthers is how many attributes and lifted fields an entry has at most:
	// journald drops one with more than 1,024 fields without a word.
	maxOthers = 900
	// shortID is as much of a container's id as people use.
	shortID = 12
)

// named are the names that the engine's own driver has for fields, which are there
// whatever attributes a container has.
func named() map[string]string {
	return map[string]string{
		field.Tag: "CONTAINER_TAG", field.ContainerID: "CONTAINER_ID_FULL", field.ContainerName: "CONTAINER_NAME", field.ImageName: "IMAGE_NAME",
		field.Version: "DOCKLINE_VERSION",
	}
}

// ownNames are the names that no attribute and no lifted field may have.
func ownNames() map[string]bool {
	own := map[string]bool{}
	for _, name := range []string{
		"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_TIMESTAMP", "CONTAINER_ID", "CONTAINER_PARTIAL_MESSAGE",
		"DOCKLINE_ID", "DOCKLINE_SOURCE", "DOCKLINE_LEVEL", "DOCKLINE_OBSERVED",
	} {
		own[name] = true
	}
	for _, f := range field.All() {
		own[nameOf(f.Name)] = true
	}
	return own
}

// nameOf is a field's name in the journal.
func nameOf(name string) string {
	if known := named()[name]; known != "" {
		return known
	}
	return "DOCKLINE_" + strings.ToUpper(name)
}

// priorities are those of syslog, from no level over trace to emergency.
//
//nolint:gochecknoglobals // a constant
var priorities = [...]byte{0, '7', '7', '6', '5', '4', '3', '2', '1', '0'}

// Where the application says no level, a record has the priority that the engine's
// own driver gives it.
const (
	ofStdout = '6' // info
	ofStderr = '3' // err
)

// template makes entries of the records of one stream.
type template struct {
	fixed  []byte // the fields of the stream, and the name of the id with its first half
	room   int    // for lifted fields
	names  lifted.Names
	stamps [2]stamp.Cache // of the record's time and the engine's
}

func newTemplate(m *ship.Meta) *template {
	t := &template{room: maxOthers, stamps: [2]stamp.Cache{stamp.New(), stamp.New()}}
	own := ownNames()
	for _, f := range m.Fields() {
		t.fixed = appendField(t.fixed, nameOf(f.Key), []byte(f.Value))
	}
	t.fixed = appendField(t.fixed, "CONTAINER_ID", []byte(m.ContainerID[:min(shortID, len(m.ContainerID))]))
	tag := m.Tag
	if tag == "" {
		tag = m.ContainerName
	}
	t.fixed = appendField(t.fixed, "SYSLOG_IDENTIFIER", []byte(tag))
	attrs := lifted.Names{Encode: appendName, Reserved: ownNames(), Mark: '_'}
	for _, a := range m.Attrs[:min(len(m.Attrs), maxOthers)] {
		name := string(attrs.Next([]byte(a.Key)))
		t.fixed = appendField(t.fixed, name, []byte(a.Value))
		own[name] = true // that no lifted field gets it
		t.room--
	}
	t.names = lifted.Names{Encode: appendName, Reserved: own, Mark: '_'}
	t.fixed = slices.Clip(append(t.fixed, "DOCKLINE_ID="+oneLine(m.Stream)+"-"...))
	return t
}

// oneLine is for a value that has to be text.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// Append implements ship.Template.
func (t *template) Append(dst []byte, r *ship.Record) []byte {
	dst = append(stamp.AppendOffset(append(dst, t.fixed...), r.Offset), "\nDOCKLINE_SOURCE="...)
	priority := byte(ofStdout)
	if r.Stderr {
		dst, priority = append(dst, "stderr"...), ofStderr
	} else {
		dst = append(dst, "stdout"...)
	}
	if r.Level != 0 {
		priority = priorities[r.Level]
		dst = append(append(dst, "\nDOCKLINE_LEVEL="...), r.Level.String()...)
	}
	dst = append(append(dst, "\nPRIORITY="...), priority)
	dst = t.stamps[0].AppendNano(append(dst, "\nSYSLOG_TIMESTAMP="...), r.Time)
	if r.Stamped != 0 && r.Stamped != r.Time {
		dst = t.stamps[1].AppendNano(append(dst, "\nDOCKLINE_OBSERVED="...), r.Stamped)
	}
	dst = append(dst, '\n')
	if r.Cut {
		dst = append(dst, "CONTAINER_PARTIAL_MESSAGE=true\n"...)
	}
	t.names.Reset()
	for i := range r.Fields[:min(len(r.Fields), max(t.room, 0))] {
		dst = appendValue(append(dst, t.names.Next(r.Fields[i].Key)...), r.Fields[i].Value)
	}
	return appendValue(append(dst, "MESSAGE"...), r.Line)
}

func appendField(dst []byte, name string, value []byte) []byte {
	return appendValue(append(dst, name...), value)
}

// appendValue appends what is behind a field's name: text, or what has newlines in
// it with its length before it.
func appendValue(dst, value []byte) []byte {
	if bytes.IndexByte(value, '\n') < 0 {
		dst = append(dst, '=')
	} else {
		dst = binary.LittleEndian.AppendUint64(append(dst, '\n'), uint64(len(value)))
	}
	return append(append(dst, value...), '\n')
}

// numberRoom is left of a name for a number behind it.
const numberRoom = 4

// appendName appends a name as the engine's own driver makes it: capitals, digits
// and underscores, none of these in front. The journal wants no digit in front
// either, and drops a field without a word where the rule is broken.
func appendName(dst, key []byte) []byte {
	start := len(dst)
	for _, r := range string(key) {
		if len(dst)-start == maxName-numberRoom {
			break
		}
		switch {
		case r >= 'a' && r <= 'z':
			r -= 'a' - 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9' && len(dst) > start:
		case r >= '0' && r <= '9':
			dst = append(dst, "N_"...)
		default:
			r = '_'
		}
		if r != '_' || len(dst) > start {
			dst = append(dst, byte(r)) //nolint:gosec // ASCII
		}
	}
	if len(dst) == start {
		dst = append(dst, "UNNAMED"...)
	}
	return dst
}
