package syslog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestConformance(t *testing.T) {
	for _, p := range []sinktest.Protocol{
		{Scheme: "syslog+tcp", Next: nextMessage},
		{Scheme: "syslog+tls", Next: nextMessage},
		{Scheme: "syslog+tcp", Query: "framing=newline", Next: nextLine(sinktest.Line)},
		{Scheme: "syslog+tls", Query: "framing=newline&format=rfc3164", Next: nextLine(lineOfBSD)},
		{Scheme: "syslog+tcp", Query: "format=rfc3164&metadata=cee", Next: nextMessageOf(lineOfCEE)},
	} {
		p.New = New
		t.Run(p.Scheme+" "+p.Query, func(t *testing.T) { sinktest.Run(t, p) })
	}
}

// nextLine reads one message framed by newlines.
func nextLine(line func([]byte) (string, error)) func(*bufio.Reader) ([]string, []byte, error) {
	return func(br *bufio.Reader) ([]string, []byte, error) {
		raw, err := br.ReadBytes('\n')
		if err != nil {
			return nil, nil, err
		}
		raw = raw[:len(raw)-1]
		for _, c := range []byte{'\n', '\r', 0} {
			raw = bytes.ReplaceAll(raw, fmt.Appendf(nil, "#%03o", c), []byte{c})
		}
		text, err := line(raw)
		return []string{text}, nil, err
	}
}

var bsdHead = regexp.MustCompile(`^<(30|27)>1970-01-01T00:00:00\.\d{6}Z (host__|-) (t_g/web|-)\[(0123456789ab|-)\]: `)

func lineOfBSD(raw []byte) (string, error) {
	head := bsdHead.Find(raw)
	if head == nil {
		return "", fmt.Errorf("not a message of RFC 3164: %.200q", raw)
	}
	return string(raw[len(head):]), nil
}

// lineOfCEE returns the line out of the object that MSG is.
func lineOfCEE(raw []byte) (string, error) {
	text, err := lineOfBSD(raw)
	object, found := strings.CutPrefix(text, cee)
	if err != nil || !found {
		return "", fmt.Errorf("%.200q: %w", raw, err)
	}
	var o struct {
		ID, Host, Message string
		Exact             []byte `json:"message_base64"`
	}
	if err := json.Unmarshal([]byte(object), &o); err != nil || !strings.HasPrefix(o.ID, "s1-") {
		return "", fmt.Errorf("%.200q: %w", object, err)
	}
	if o.Exact != nil {
		return string(o.Exact), nil
	}
	return o.Message, nil
}

// nextMessage reads one message framed by octet counting, and its MSG.
func nextMessage(br *bufio.Reader) ([]string, []byte, error) {
	return nextMessageOf(sinktest.Line)(br)
}

func nextMessageOf(line func([]byte) (string, error)) func(*bufio.Reader) ([]string, []byte, error) {
	return func(br *bufio.Reader) ([]string, []byte, error) {
		var length int
		if _, err := fmt.Fscanf(br, "%d ", &length); err != nil {
			return nil, nil, err
		}
		raw := make([]byte, length)
		if _, err := io.ReadFull(br, raw); err != nil {
			return nil, nil, err
		}
		text, err := line(raw)
		return []string{text}, nil, err
	}
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, New, []sinktest.URL{
		{URL: "syslog+tcp://host"},
		{URL: "syslog+tcp://host:1/"},
		{URL: "syslog+tcp://[::1]:601?facility=local7&timeout=5s"},
		{URL: "syslog+tcp://host?facility=23"},
		{URL: "syslog+tcp://host?facility=", Err: "facility"},
		{URL: "syslog+tcp://host?facility=24", Err: "within 0 to 23"},
		{URL: "syslog+tcp://host?facility=deamon", Err: `did you mean "daemon"?`},
		{URL: "syslog+tcp://host?facilty=1", Err: `did you mean "facility"?`},
		{URL: "syslog+tcp://host?timeout=1s&timeout=2s", Err: "given 2 times"},
		{URL: "syslog+tcp://host?timeout=1", Err: "timeout"},
		{URL: "syslog+tcp://host?timeout=1us", Err: "within"},
		{URL: "syslog+tcp://host?a;b", Err: "semicolon"},
		{URL: "syslog+tcp://:601", Err: "host is missing"},
		{URL: "syslog+tcp://host:0", Err: "port"},
		{URL: "syslog+tcp://host:65536", Err: "port"},
		{URL: "syslog+tcp://host/path", Err: "path"},
		{URL: "syslog+tcp://host#x", Err: "follows a #"},
		{URL: "syslog+tcp://user:secret@host", Err: "password"},
		{URL: "syslog+tcp:host", Err: "//"},
		{URL: "syslog://host", Err: "scheme"},
		{URL: "syslog+tls://host?format=rfc3164&time=bsd&framing=newline"},
		{URL: "syslog+udp://host?format=rfc3164&max-message=1k"},
		{URL: "syslog+tcp://host?format=rfc5425", Err: "rfc3164"},
		{URL: "syslog+tcp://host?time=bsd", Err: "format=rfc3164"},
		{URL: "syslog+tcp://host?framing=crlf", Err: "newline"},
		{URL: "syslog+udp://host?framing=newline", Err: "framing"},
		{URL: "syslog+tcp://host?max-message=8k&max-line=0&format=rfc3164&metadata=cee"},
		{URL: "syslog+tcp://host?max-message=1", Err: "max-message"},
		{URL: "syslog+tcp://host?metadata=cee", Err: "structured data"},
		{URL: "syslog+tcp://host?format=rfc3164&metadata=json", Err: "cee"},
		{URL: "syslog+udp://host?max-message=64k", Err: "not within 1024 to 65507"},
		{URL: "syslog+udp://host?max-message=0", Err: "not within"},
	})
}

func TestDefaultPort(t *testing.T) {
	for scheme, want := range map[string]string{"syslog+tcp": "host:601", "syslog+tls": "host:6514", "syslog+udp": "host:514"} {
		s, err := New(&url.URL{Scheme: scheme, Host: "host"}, sinktest.Host())
		if err != nil || s.(*collector).Addr != want {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

func TestBSD(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC).UnixNano()
	for _, tc := range []struct {
		short bool
		meta  ship.Meta
		r     ship.Record
		want  string
	}{
		{true, ship.Meta{Host: "h x", Tag: "a:b[c]", ContainerID: strings.Repeat("ab", 32)}, ship.Record{Line: []byte("line")}, "<30>Feb  3 04:05:06 h_x a_b_c_[abababababab]: line"},
		{false, ship.Meta{Host: "h", ContainerName: "web"}, ship.Record{Stderr: true, Cut: true}, "<27>2026-02-03T04:05:06.789000Z h web[-]:  [cut]"},
		{true, ship.Meta{Tag: strings.Repeat("t", 40)}, ship.Record{}, "<30>Feb  3 04:05:06 - " + strings.Repeat("t", 32) + "[-]: "},
	} {
		tmpl := newBSD(&tc.meta, 3, tc.short, false)
		for range 2 { // the second time from what is remembered
			tc.r.Time = at
			if got := string(tmpl.Append(nil, &tc.r)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		}
		tc.r.Time = -1
		if got := string(tmpl.Append(nil, &tc.r)); tc.short && !strings.Contains(got, ">Dec 31 23:59:59 ") {
			t.Errorf("got %q", got)
		}
	}
}

func FuzzEscapeLine(f *testing.F) {
	f.Add("a\nb\r\n\x00", 3)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, s string, room int) {
		dst := append(make([]byte, 0, 6+max(0, min(room, 1<<16))), "before"...)
		got := string(escapeLine(append(dst, s...), len(dst)))
		want := "before" + strings.NewReplacer("\n", "#012", "\r", "#015", "\x00", "#000").Replace(s)
		if got != want {
			t.Errorf("%q reads %q, want %q", s, got, want)
		}
	})
}

func TestAppendCountsOctets(t *testing.T) {
	for _, size := range []int{0, 1, 700, 800, 840, 850, 860, 870, 9_000, 100_000} {
		tmpl, r := rfc5424.New(&ship.Meta{Stream: "s"}, 3, 0), &ship.Record{Line: []byte(strings.Repeat("y", size))}
		message := string(tmpl.Append(nil, r))
		got := string((&countedConn{}).Append([]byte("before"), tmpl, r))
		if want := fmt.Sprintf("before%d %s", len(message), message); got != want {
			t.Errorf("size %d: %.80q, want %.80q", size, got, want)
		}
	}
}

// TestMessagesAreBounded: whatever was lifted out of a line, no frame is longer than
// servers take, however it is framed and escaped.
func TestMessagesAreBounded(t *testing.T) {
	addr := sinktest.Idle(t)
	r := &ship.Record{Line: []byte(strings.Repeat("line\n", 40_000)), Fields: []ship.Field{
		{Key: []byte("original"), Value: []byte(strings.Repeat(`"]\\`, 50_000))}, {Key: []byte("other"), Value: []byte(strings.Repeat("\xff", 100_000))},
	}}
	for _, params := range []string{"", "framing=newline", "max-message=8k", "max-message=8k&framing=newline", "format=rfc3164&metadata=cee&max-message=16k"} {
		s := sinktest.Open(t, New, sinktest.Host(), "syslog+tcp://"+addr+"?"+params)
		conn := sinktest.Connect(t, s)
		most := s.Limits().MessageBytes
		dst, pieces := ship.AppendRecord(nil, s, conn, sinktest.Meta(), r)
		if min := len(dst)/most + 1; pieces < min || pieces > 3*min {
			t.Errorf("%s: %d pieces of %d bytes", params, pieces, len(dst))
		}
		for br := bufio.NewReader(bytes.NewReader(dst)); ; {
			length, err := frame(br, strings.Contains(params, "newline"))
			if err != nil {
				break
			}
			if length > most || most > 200_000 {
				t.Errorf("%s: %d bytes in a frame", params, length)
			}
			pieces--
		}
		if pieces != 0 {
			t.Errorf("%s: %d frames are missing", params, pieces)
		}
		_ = conn.Close()
	}
}

// frame reads a message and returns its length.
func frame(br *bufio.Reader, newline bool) (int, error) {
	if newline {
		raw, err := br.ReadBytes('\n')
		return len(raw) - 1, err
	}
	length := 0
	if _, err := fmt.Fscanf(br, "%d ", &length); err != nil {
		return 0, err
	}
	return br.Discard(length)
}
