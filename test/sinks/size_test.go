package sinks

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/relp"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

// TestLargeFields: of what was lifted out of a line nothing is lost or takes what
// follows with it, however much it is and however it grows when it is escaped.
func TestLargeFields(t *testing.T) {
	const n = 200_000
	r := &ship.Record{Offset: 1 << 20, Time: 1_700_000_000_123_456_789, Line: []byte(strings.Repeat("l", n)), Fields: []ship.Field{
		{Key: []byte("plain"), Value: []byte(strings.Repeat("v", n))}, {Key: []byte("escaped"), Value: []byte(strings.Repeat(`"`, n))},
	}}
	for _, tc := range []struct {
		page, scheme, params string
		port                 int
		make                 newSink
	}{
		{"syslog.md", "syslog+tcp", "", 601, syslog.New},
		{"syslog.md", "syslog+tcp", "framing=newline&max-message=8k", 601, syslog.New},
		{"relp.md", "relp", "", 2514, relp.New},
		{"relp.md", "relp", "max-message=8k", 2514, relp.New},
	} {
		t.Run(tc.scheme+" "+tc.params, func(t *testing.T) {
			p := start(t, tc.page, "rsyslog", rsyslogd)
			u, err := url.Parse(fmt.Sprintf("%s://127.0.0.1:%d?facility=local1&%s", tc.scheme, p.ports[tc.port], tc.params))
			if err != nil {
				t.Fatal(err)
			}
			s, err := tc.make(u, p.host)
			if err != nil {
				t.Fatal(err)
			}
			pieces := sendLarge(t, s, r)
			all := p.messages(t, pieces+10)
			lines, plain, escaped := 0, 0, 0
			for _, m := range all[:pieces] {
				lines += strings.Count(m.Msg, "l")
				_, values, _ := strings.Cut(m.SD, "[fields@")
				plain += strings.Count(values, "v")
				escaped += strings.Count(values, `\"`)
			}
			if lines != n || plain != n || escaped != n {
				t.Errorf("%d pieces have %d bytes of the line, %d and %d of the fields, want %d each", pieces, lines, plain, escaped, n)
			}
			for i, m := range all[pieces:] {
				expected{}.check(t, m, 10+i)
			}
		})
	}
}

// sendLarge sends a record and ten that follow it, and returns of how many
// messages the first consists.
func sendLarge(t *testing.T, s ship.Sink, r *ship.Record) (pieces int) {
	t.Helper()
	var conn ship.Conn
	eventually(t, func() (err error) {
		conn, err = s.Dial(t.Context())
		return err
	})
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dst, pieces := ship.AppendRecord(nil, s, conn, meta(), r)
	tmpl := s.Prepare(meta())
	for i := range 10 {
		dst = conn.Append(dst, tmpl, &ship.Record{Offset: uint64(10 + i), Time: r.Time, Stderr: i%2 == 1, Line: []byte(line(10 + i))}) //nolint:gosec // small
	}
	if err := conn.Send(ctx, dst); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Wait(ctx, 0); err != nil {
		t.Fatal(err)
	}
	return pieces
}

// TestCEE: what RFC 3164 has no room for is what rsyslog makes of the message.
func TestCEE(t *testing.T) {
	p := start(t, "syslog.md", "rsyslog-cee", rsyslogd)
	u, err := url.Parse(fmt.Sprintf("syslog+tcp://127.0.0.1:%d?format=rfc3164&metadata=cee", p.ports[5142]))
	if err != nil {
		t.Fatal(err)
	}
	s, err := syslog.New(u, p.host)
	if err != nil {
		t.Fatal(err)
	}
	r := &ship.Record{Offset: 7, Time: 1_700_000_000_123_456_789, Line: []byte(`two` + "\n" + `"lines" ü`), Fields: []ship.Field{{Key: []byte("status"), Value: []byte("200"), Raw: true}}}
	sendLarge(t, s, r)
	got := p.messages(t, 11)[0]
	if want := (message{Pri: `a"b]c\d ü`, Time: "200", Host: "node-1", App: "web-1", SD: "s1-0000000000000007", Msg: string(r.Line)}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
