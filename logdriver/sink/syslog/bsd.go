package syslog

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsonline"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

const (
	maxTag  = 32 // RFC 3164 section 4.1.3
	shortID = 12

	bsdLayout = "Jan _2 15:04:05"
	cutMark   = " [cut]"
)

// bsd makes messages of RFC 3164:
//
//	<PRI>TIMESTAMP HOSTNAME TAG[ID]: MSG
//
// There is no room for a record's id, nor for attributes and fields. With
// metadata=cee, MSG is the object of package jsonl behind the word by which
// receivers know that it is one: rsyslog's mmjsonparse, syslog-ng's json-parser.
type bsd struct {
	head  [8][]byte // up to the time, by severity
	mid   []byte    // behind it
	short bool      // RFC 3164's own time, else RFC 3339's
	clock stamp.Cache
	sec   int64 // that text is of
	text  [len(bsdLayout)]byte
	json  *jsonline.Template // nil: MSG is the line
}

// cee is what MSG begins with if an object follows (Common Event Expression).
const cee = "@cee: "

func newBSD(m *ship.Meta, facility int, short, metadata bool) *bsd {
	t := &bsd{short: short, clock: stamp.New(), sec: math.MinInt64}
	for severity := range t.head {
		t.head[severity] = append(strconv.AppendInt([]byte{'<'}, int64(facility*8+severity), 10), '>')
	}
	tag := m.Tag
	if tag == "" {
		tag = m.ContainerName
	}
	tag = strings.NewReplacer(":", "_", "[", "_", "]", "_").Replace(rfc5424.Field(tag, maxTag))
	t.mid = []byte(" " + rfc5424.Field(m.Host, 255) + " " + tag + "[" + rfc5424.Field(m.ContainerID, shortID) + "]: ")
	if metadata {
		t.json, t.mid = jsonline.New(m), append(t.mid, cee...)
	}
	return t
}

// Append implements ship.Template.
func (t *bsd) Append(dst []byte, r *ship.Record) []byte {
	dst = append(dst, t.head[rfc5424.Severity(r)]...)
	if t.short {
		dst = t.appendTime(dst, r.Time)
	} else {
		dst = t.clock.AppendMicro(dst, r.Time)
	}
	dst = append(dst, t.mid...)
	if t.json != nil {
		return t.json.Append(dst, r)
	}
	if dst = append(dst, r.Line...); r.Cut {
		dst = append(dst, cutMark...)
	}
	return dst
}

func (t *bsd) appendTime(dst []byte, ns int64) []byte {
	if sec := time.Unix(0, ns).Unix(); sec != t.sec {
		copy(t.text[:], time.Unix(sec, 0).UTC().AppendFormat(t.text[:0], bsdLayout))
		t.sec = sec
	}
	return append(dst, t.text[:]...)
}
