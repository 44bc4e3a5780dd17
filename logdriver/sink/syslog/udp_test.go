package syslog

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func receive(t *testing.T, params string) (*sinktest.Receiver, ship.Sink, ship.Conn) {
	t.Helper()
	return sinktest.Receive(t, New, "syslog+udp", params)
}

func TestDatagrams(t *testing.T) { sinktest.RunDatagrams(t, New, "syslog+udp") }

// TestUDP sends lines of all lengths and puts together what comes.
func TestUDP(t *testing.T) {
	for _, params := range []string{"", "?max-message=1k", "?max-message=65507", "?format=rfc3164&max-message=1100"} {
		peer, s, conn := receive(t, params)
		limit := s.(*collector).datagram
		for i, size := range []int{0, 1, 500, 1000, 1500, 3000, 10_000} {
			line := strings.Repeat("żółw ", size/5+1)[:size]
			line = strings.ToValidUTF8(line, "")
			r := &ship.Record{Offset: uint64(i << 20), Line: []byte(line)}
			dst, _ := ship.AppendRecord(nil, s, conn, sinktest.Meta(), r)
			if err := conn.Send(t.Context(), dst); err != nil {
				t.Fatal(err)
			}
			if acked, err := conn.Wait(t.Context(), uint64(i)); acked != uint64(i+1) || err != nil {
				t.Fatalf("acked %d, %v", acked, err)
			}
			if got := together(t, peer, limit, strings.Contains(params, "3164"), uint64(i<<20)); got != line {
				t.Errorf("%s, %d bytes: %.100q, want %.100q", params, size, got, line)
			}
		}
	}
}

// together reads the pieces of one line.
func together(t *testing.T, peer *sinktest.Receiver, limit int, bsd bool, offset uint64) (line string) {
	t.Helper()
	for n := 0; ; n++ {
		raw := string(peer.Next())
		if len(raw) > limit {
			t.Fatalf("%d bytes in a datagram", len(raw))
		}
		var text string
		var cut bool
		var err error
		if bsd {
			_, text, _ = strings.Cut(raw, "]: ")
			text, cut = strings.CutSuffix(text, cutMark)
		} else {
			text, err = sinktest.Line([]byte(raw))
			cut = strings.Contains(raw, `" cut="true"] `)
			id := fmt.Sprintf(`id="s1-%016x"`, record.PieceID(offset, n, !cut))
			if n == 0 && !cut {
				id = fmt.Sprintf(`id="s1-%016x"`, offset)
			}
			if !strings.Contains(raw, id) {
				t.Fatalf("no %s in %.400q", id, raw)
			}
		}
		if err != nil || !utf8.ValidString(text) {
			t.Fatalf("%.200q: %v", raw, err)
		}
		if line += text; !cut {
			return line
		}
	}
}

// TestUDPEveryByte: a datagram has an end of its own, so that nothing in a line is
// in the way.
func TestUDPEveryByte(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	peer, s, conn := receive(t, "")
	tmpl := s.Prepare(sinktest.Meta())
	for i, line := range []string{string(every), "", "\n", "\x00", strings.Repeat("\xff", 1000)} {
		if err := conn.Send(t.Context(), conn.Append(nil, tmpl, &ship.Record{Line: []byte(line)})); err != nil {
			t.Fatal(err)
		}
		if got, err := sinktest.Line(peer.Next()); got != line || err != nil {
			t.Errorf("%d: %.100q, %v, want %.100q", i, got, err, line)
		}
	}
}

// TestUDPHugeLine: 10 MiB are many datagrams, with all of it.
func TestUDPHugeLine(t *testing.T) {
	_, s, conn := receive(t, "")
	line := strings.Repeat("0123456789abcdef", 10<<20/16)
	dst, pieces := ship.AppendRecord(nil, s, conn, sinktest.Meta(), &ship.Record{Line: []byte(line)})
	var got strings.Builder
	for len(dst) > 0 {
		end := 4 + binary.BigEndian.Uint32(dst)
		text, err := sinktest.Line(dst[4:end])
		if err != nil || end > 4+standardMessage {
			t.Fatalf("%d bytes, %v", end, err)
		}
		got.WriteString(text)
		dst, pieces = dst[end:], pieces-1
	}
	if got.String() != line || pieces != 0 {
		t.Errorf("%d bytes in all, %d pieces too many", got.Len(), pieces)
	}
}

// TestUDPHugeAttributes: what leaves no room for a line is left out, and said to be.
func TestUDPHugeAttributes(t *testing.T) {
	peer, s, conn := receive(t, "")
	m := sinktest.Meta()
	m.Attrs = []ship.Attr{{Key: "a", Value: "b"}, {Key: "k", Value: strings.Repeat("v", 100_000)}}
	dst, pieces := ship.AppendRecord(nil, s, conn, m, &ship.Record{Line: []byte("line")})
	if err := conn.Send(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if got := string(peer.Next()); pieces != 1 || !strings.Contains(got, ` a="b" attrs_left_out="1"] line`) {
		t.Errorf("%d bytes: %.700q", len(got), got)
	}
}

// TestUDPFields: fields are sent once, and go on in further datagrams if need be.
func TestUDPFields(t *testing.T) {
	peer, s, conn := receive(t, "")
	r := &ship.Record{Line: []byte(strings.Repeat("x", 3000))}
	for i := range 20 {
		r.Fields = append(r.Fields, ship.Field{Key: fmt.Append(nil, "f", i), Value: []byte(strings.Repeat("v", 200))})
	}
	dst, pieces := ship.AppendRecord(nil, s, conn, sinktest.Meta(), r)
	if err := conn.Send(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for range pieces {
		raw := string(peer.Next())
		if len(raw) > standardMessage {
			t.Errorf("%d bytes in a datagram", len(raw))
		}
		got.WriteString(raw)
	}
	for i := range 20 {
		if n := strings.Count(got.String(), fmt.Sprintf(` f%d="`, i)); n != 1 {
			t.Errorf("f%d is there %d times", i, n)
		}
	}
	if n := strings.Count(got.String(), "x"); n < 3000 || pieces > 9 {
		t.Errorf("%d pieces, with %d bytes of the line", pieces, n)
	}
}
