package nats

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func newOne(u *url.URL, host sink.Host) (ship.Sink, error) { return New([]*url.URL{u}, host) }

const greetingOK = `{"server_id":"x","version":"2.10.0","headers":true,"max_payload":67108864,"jetstream":true,"tls_available":true}`

func TestConformance(t *testing.T) {
	for _, p := range []sinktest.Protocol{
		{Scheme: "nats", Query: "subject=logs.{container_name|none}", Next: next},
		{Scheme: "nats+tls", Query: "subject=logs.x&tls-first=on", Next: next},
	} {
		p.New, p.Confirms = newOne, true
		p.Greet = func(c net.Conn, br *bufio.Reader) error { return greet(c, br, greetingOK) }
		t.Run(p.Scheme+" "+p.Query, func(t *testing.T) { sinktest.Run(t, p) })
	}
}

// greet is what a server says and hears at the beginning.
func greet(c net.Conn, br *bufio.Reader, greeting string) error {
	if _, err := fmt.Fprintf(c, "INFO %s \r\n", greeting); err != nil {
		return err
	}
	var hello connect
	for _, op := range []string{"CONNECT ", "SUB _INBOX.", "PING"} {
		line, err := br.ReadString('\n')
		rest, ok := strings.CutPrefix(line, op)
		if err != nil || !ok || !strings.HasSuffix(line, "\r\n") {
			return fmt.Errorf("%q instead of %s, %w", line, op, err)
		}
		if op == "CONNECT " {
			err = json.Unmarshal([]byte(rest), &hello)
		}
		if err != nil || !hello.Headers || !hello.NoResponders || hello.Verbose {
			return fmt.Errorf("%+v, %w", hello, err)
		}
	}
	_, err := io.WriteString(c, "PONG\r\n")
	return err
}

// next reads one HPUB, and answers as a stream does.
func next(br *bufio.Reader) ([]string, []byte, error) {
	m, err := readMessage(br)
	if err != nil {
		return nil, nil, err
	}
	return []string{m.line}, m.answer(`{"stream":"LOGS", "seq":7}`), nil
}

type message struct {
	subject, reply, headers, line string
}

func (m *message) answer(text string) []byte {
	return fmt.Appendf(nil, "MSG %s 1 %d\r\n%s\r\n", m.reply, len(text), text)
}

func readMessage(br *bufio.Reader) (*message, error) {
	line, err := br.ReadString('\n')
	if err != nil {
		return nil, err
	}
	m := &message{}
	var head, total int
	if n, err := fmt.Sscanf(line, "HPUB %s %s %d %d\r\n", &m.subject, &m.reply, &head, &total); err != nil || n != 4 || head > total {
		return nil, fmt.Errorf("%q: %w", line, err)
	}
	body := make([]byte, total+2)
	if _, err := io.ReadFull(br, body); err != nil {
		return nil, err
	}
	m.headers = string(body[:head])
	payload, ok := bytes.CutSuffix(body[head:], []byte("\r\n"))
	if !ok || !strings.HasPrefix(m.headers, "NATS/1.0\r\nNats-Msg-Id: s1-") || !strings.HasSuffix(m.headers, "\r\n\r\n") || strings.Count(m.headers, "\r\n\r\n") != 1 {
		return nil, fmt.Errorf("message %q", body)
	}
	if m.line = string(payload); strings.Contains(m.headers, "\r\nsource: ") {
		return m, nil
	}
	var o struct {
		Message string `json:"message"`
		Exact   []byte `json:"message_base64"`
	}
	if err := json.Unmarshal(payload, &o); err != nil {
		return nil, err
	}
	if m.line = o.Message; o.Exact != nil {
		m.line = string(o.Exact)
	}
	return m, nil
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, newOne, []sinktest.URL{
		{URL: "nats://host?subject=logs"},
		{URL: "nats://user:secret@host?subject=logs.{host}.{attr.team|other}&format=line&headers=id"},
		{URL: "nats://user@host?subject=logs&password-file=p"},
		{URL: "nats+tls://host?subject=logs&creds-file=/etc/c&tls-first=on&inbox=_INBOX.dockline"},
		{URL: "nats://host", Err: "name the subject"},
		{URL: "nats://host/logs", Err: "?subject="},
		{URL: "nats://host?subject=logs.*", Err: "*"},
		{URL: "nats://host?subject=logs.>", Err: ">"},
		{URL: "nats://host?subject=a..b", Err: "dots"},
		{URL: "nats://host?subject=.a", Err: "dots"},
		{URL: "nats://host?subject=a.", Err: "dots"},
		{URL: "nats://host?subject=a%20b", Err: `" "`},
		{URL: "nats://host?subject=$JS.API", Err: "servers' own"},
		{URL: "nats://host?subject=logs.{hots}", Err: "did you mean {host}"},
		{URL: "nats://host?subject=logs.{host", Err: "without its }"},
		{URL: "nats://host?subject=" + strings.Repeat("{host}", 17), Err: "longer than 2048"},
		{URL: "nats://host?subject=a&tls-first=on", Err: "tls-first"},
		{URL: "nats://host?subject=a&format=xml", Err: "json, line"},
		{URL: "nats://host?subject=a&inbox=x.", Err: "inbox"},
		{URL: "nats://host?subject=a&token-file=t&nkey-file=n", Err: "only one"},
		{URL: "nats://user@host?subject=a&token-file=t", Err: "exclude each other"},
		{URL: "nats://user@host?subject=a", Err: "no password"},
		{URL: "nats://user:secret@host?subject=a&password-file=p", Err: "without a password"},
		{URL: "nats://host?subject=a&creds-file=/root/c", Err: "creds-file"},
	})
	if s := sinktest.Open(t, newOne, sinktest.Host(), "nats://h?subject=logs"); s.(*cluster).Addr != "h:4222" {
		t.Error(s.(*cluster).Addr)
	}
}

func TestSubject(t *testing.T) {
	m := sinktest.Meta()
	m.Attrs = append(m.Attrs, ship.Attr{Key: "awkward", Value: " a.b*c>d\te\x00f\xff"}, ship.Attr{Key: "long", Value: strings.Repeat("ü", 100)})
	for text, want := range map[string]string{
		"logs": "logs", "logs.{host}.{container_name}": "logs.host_ü.web-1", "x.{attr.awkward}": "x._a_b_c_d_e_f_", "x.{compose_project}": "x.none",
		"x.{compose_project|other}.{attr.none|y}": "x.other.y", "{attr.long}": strings.Repeat("ü", 64),
	} {
		s, err := parseSubject(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Expand(m, token); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		if missing := s.Check(m) != nil; missing != (text == "x.{compose_project}") {
			t.Errorf("%s: %v", text, s.Check(m))
		}
	}
}

// TestSubjectOfTheServers: no container has us publish to what is the servers' own.
func TestSubjectOfTheServers(t *testing.T) {
	u, _ := url.Parse("nats://host?subject={attr.a}.{attr.b}.x")
	s, err := newOne(u, sinktest.Host())
	if err != nil {
		t.Fatal(err)
	}
	m := &ship.Meta{Attrs: []ship.Attr{{Key: "a", Value: "$JS"}, {Key: "b", Value: "$API"}}}
	if got := s.Prepare(m).(*template).subject; got != "_JS.$API.x" {
		t.Errorf("subject %q", got)
	}
}

// TestPiecesOfAnotherSize: what was cut for one size does not get the id of pieces
// that are cut for another, though that is known already.
func TestPiecesOfAnotherSize(t *testing.T) {
	s, conn, err := session(t, func(c net.Conn, br *bufio.Reader) {
		if err := greet(c, br, greetingOK); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(io.Discard, br)
	})
	if err != nil {
		t.Fatal(err)
	}
	was := fmt.Sprintf("/%d\r\n", s.Limits().MessageBytes)
	s.(*cluster).most.Store(8 << 10) // the stream has refused what is larger, on this very connection
	if got := string(conn.Append(nil, s.Prepare(sinktest.Meta()), &ship.Record{Piece: true})); !strings.Contains(got, was) {
		t.Errorf("%.200q, want %q", got, was)
	}
	if got := s.Limits().MessageBytes; got >= 8<<10 {
		t.Errorf("the next connection has pieces of %d bytes", got)
	}
}

func TestMessages(t *testing.T) {
	u, _ := url.Parse("nats://host?subject=logs&format=line")
	s, err := newOne(u, sinktest.Host())
	if err != nil {
		t.Fatal(err)
	}
	m := &ship.Meta{Stream: "s1", Host: "h\r\nNats-Rollup: all", ContainerName: "web", Attrs: []ship.Attr{
		{Key: "Nats-Rollup", Value: "all"}, {Key: "nats-TTL", Value: "1"}, {Key: "a: b\r\n", Value: "ü"}, {Key: "time", Value: "forged"}, {Key: "", Value: "x"},
	}}
	tmpl := s.Prepare(m).(*template)
	got := string(tmpl.Append(nil, &ship.Record{Time: 1, Offset: 2, Stderr: true, Cut: true, Level: 4, Line: []byte("a\r\n\x00b"), Fields: []ship.Field{{Key: []byte("n"), Value: []byte("1"), Raw: true}}}))
	want := "NATS/1.0\r\nNats-Msg-Id: s1-0000000000000002\r\ntime: 1970-01-01T00:00:00.000000001Z\r\nsource: stderr\r\n" +
		"host: h  Nats-Rollup: all\r\ncontainer_name: web\r\n_Nats-Rollup: all\r\n_nats-TTL: 1\r\na__b__: ü\r\ntime~2: forged\r\n_: x\r\n" +
		"level: notice\r\nfields: {\"n\":1}\r\ncut: true\r\n\r\na\r\n\x00b"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got[tmpl.head:] != "a\r\n\x00b" {
		t.Errorf("headers end at %d", tmpl.head)
	}
	large := ship.Record{Line: []byte("x"), Fields: []ship.Field{{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), maxHead)}}}
	if got = string(tmpl.Append(nil, &large)); !strings.HasPrefix(got[:tmpl.head], "NATS/1.0\r\nNats-Msg-Id: s1-0000000000000000\r\nformat: json\r\n\r\n") || !json.Valid([]byte(got[tmpl.head:])) {
		t.Errorf("got %.200q", got)
	}
}
