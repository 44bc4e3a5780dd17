package gelf

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

// udpPair returns a receiver and a connection to it.
func udpPair(t *testing.T, params string) (*receiver, ship.Sink, ship.Conn) {
	t.Helper()
	peer, s, conn := sinktest.Receive(t, New, "gelf+udp", params)
	return &receiver{peer, assembler{parts: map[string][][]byte{}, max: s.(*collector).datagram}}, s, conn
}

// receiver puts together what comes.
type receiver struct {
	*sinktest.Receiver
	assembler
}

// datagram returns the message that the next datagram completes, if it does.
func (r *receiver) datagram(t *testing.T) map[string]any {
	t.Helper()
	message, err := r.take(r.Next())
	if err != nil {
		t.Fatal(err)
	}
	if message == nil {
		return nil
	}
	fields, err := parse(message)
	if err != nil {
		t.Fatalf("%v in %.400q", err, message)
	}
	return fields
}

// receive returns the next message, and how many datagrams it took.
func (r *receiver) receive(t *testing.T) (map[string]any, int) {
	t.Helper()
	for datagrams := 1; ; datagrams++ {
		if fields := r.datagram(t); fields != nil {
			return fields, datagrams
		}
	}
}

func TestDatagrams(t *testing.T) { sinktest.RunDatagrams(t, New, "gelf+udp") }

// TestUDP sends lines of all lengths, as noise and as what compresses well, and
// puts together what comes.
func TestUDP(t *testing.T) {
	for _, params := range []string{"", "?max-datagram=1k", "?max-datagram=8192", "?compress=gzip", "?compress=zlib&max-datagram=1024"} {
		peer, s, conn := udpPair(t, params)
		tmpl := s.Prepare(sinktest.Meta())
		offset := uint64(0)
		for i, size := range []int{0, 1, 500, 1000, 1500, 3000, 20_000, 60_000} {
			for _, text := range []string{noise(size), strings.Repeat("żółw ", size/5+1)} {
				want := strings.ToValidUTF8(text[:size], "")
				r := &ship.Record{Offset: offset, Line: []byte(want)}
				if err := conn.Send(t.Context(), conn.Append(nil, tmpl, r)); err != nil {
					t.Fatal(err)
				}
				if string(r.Line) != want || r.Offset != offset || r.Cut {
					t.Fatalf("the record was changed: %+v", r)
				}
				offset++
				if acked, err := conn.Wait(t.Context(), offset-1); acked != offset || err != nil {
					t.Fatalf("acked %d, %v", acked, err)
				}
				fields, datagrams := peer.receive(t)
				if got, err := line(fields); got != want || err != nil {
					t.Errorf("%s, %d bytes: %.100q, want %.100q", params, size, got, want)
				}
				if size == 60_000 && text[0] != 'r' && strings.Contains(params, "compress") != (datagrams == 1) {
					t.Errorf("%s: %d datagrams", params, datagrams)
				}
				if i == 0 && datagrams != 1 {
					t.Errorf("%s: an empty line in %d datagrams", params, datagrams)
				}
			}
		}
		if len(peer.parts) > 0 {
			t.Errorf("%d messages are not whole", len(peer.parts))
		}
	}
}

// noise is text that hardly compresses.
func noise(n int) string {
	text, x := make([]byte, n), uint64(n)|1
	for i := range text {
		x = x*6364136223846793005 + 1442695040888963407
		text[i] = '!' + byte(x>>57)%90
	}
	return "r" + string(text)
}

// TestUDPPieces: what makes more than 128 chunks is sent in pieces.
func TestUDPPieces(t *testing.T) {
	peer, s, conn := udpPair(t, "?max-datagram=1024")
	want := strings.Repeat("żółw", 60_000)[:400_001]
	r := &ship.Record{Offset: 7 << 20, Line: []byte(want), Fields: []ship.Field{{Key: []byte("once")}}}
	batch, pieces := ship.AppendRecord(nil, s, conn, sinktest.Meta(), r)
	got, once := "", 0
	for i, fields := range inTurns(t, peer, conn, batch) {
		text, err := line(fields)
		if err != nil {
			t.Fatal(err)
		}
		if id := fmt.Sprintf("s1-%016x", record.PieceID(7<<20, i, fields["_cut"] != "true")); fields["_record_id"] != id {
			t.Fatalf("%v, want %s", fields["_record_id"], id)
		}
		if _, has := fields["_once"]; has {
			once++
		}
		got += text
		if cut := fields["_cut"] == "true"; cut != (len(got) < len(want)) {
			t.Fatalf("cut %v at %d", cut, len(got))
		}
	}
	if got != want || once != 1 || pieces < 3 || len(conn.(ship.Refuser).Refused()) > 0 {
		t.Errorf("the same %v, fields in %d pieces of %d", got == want, once, pieces)
	}
}

// inTurns sends a few datagrams and receives them, then the next ones, because the
// receiver's buffer does not hold all.
func inTurns(t *testing.T, peer *receiver, conn ship.Conn, batch []byte) (messages []map[string]any) {
	t.Helper()
	for len(batch) > 0 {
		end, datagrams := 0, 0
		for ; end < len(batch) && datagrams < 20; datagrams++ {
			end += 4 + int(binary.BigEndian.Uint32(batch[end:]))
		}
		if err := conn.Send(t.Context(), batch[:end]); err != nil {
			t.Fatal(err)
		}
		batch = batch[end:]
		for range datagrams {
			if fields := peer.datagram(t); fields != nil {
				messages = append(messages, fields)
			}
		}
	}
	return messages
}

// TestUDPNoRoom: what no message has room for is put aside, and the rest goes on.
func TestUDPNoRoom(t *testing.T) {
	peer, s, conn := udpPair(t, "")
	m := sinktest.Meta()
	m.Attrs = []ship.Attr{{Key: "k", Value: strings.Repeat("v", 300_000)}}
	batch := conn.Append(nil, s.Prepare(m), &ship.Record{Line: []byte("line"), Offset: 1})
	batch = conn.Append(batch, s.Prepare(sinktest.Meta()), &ship.Record{Line: []byte("next")})
	refuser := conn.(ship.Refuser)
	if got := refuser.Refused(); len(got) > 0 {
		t.Errorf("too early: %+v", got)
	}
	if err := conn.Send(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if acked, err := conn.Wait(t.Context(), 0); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	got := refuser.Refused()
	if len(got) != 1 || got[0].ID != "s1-0000000000000001" || got[0].Container != "web-1" || got[0].Class != "too-large" || !strings.Contains(got[0].Reason, "128 chunks") {
		t.Errorf("%+v", got)
	}
	if again := refuser.Refused(); len(again) > 0 {
		t.Errorf("again: %+v", again)
	}
	if fields, _ := peer.receive(t); fields["short_message"] != "next" {
		t.Errorf("%v", fields)
	}
}
