package forward

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestConformance(t *testing.T) {
	for _, tc := range []struct {
		scheme, query string
		server        *server
	}{
		{"forward", "", &server{}},
		{"forward", "compress=gzip", &server{compressed: true}},
		{"forward+tls", "tag=all&shared-key-file=key&user=me&password-file=password", &server{key: "secret", user: "me", password: "pass"}},
	} {
		t.Run(tc.scheme+" "+tc.query, func(t *testing.T) {
			sinktest.Run(t, sinktest.Protocol{
				Scheme: tc.scheme, Query: tc.query, New: New, Confirms: true, Next: tc.server.next, Greet: tc.server.greet,
				Files: map[string][]byte{"key": []byte("secret\n"), "password": []byte("pass")},
			})
		})
	}
}

// dial connects to serve, with files.
func dial(t *testing.T, query string, serve func(net.Conn, *bufio.Reader)) (*conn, error) {
	t.Helper()
	host := sinktest.Host()
	host.Config = t.TempDir()
	for name, text := range map[string]string{"key": "secret\n", "password": "pass\r\n", "other": "wrong", "empty": "\n"} {
		if err := testcert.WriteFile(host.Config, name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := sinktest.Open(t, New, host, "forward://"+sinktest.Serve(t, serve)+"?"+query).Dial(t.Context())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*conn), nil
}

func TestLogin(t *testing.T) {
	const both = "shared-key-file=key&user=me&password-file=password"
	with := func(s *server) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, br *bufio.Reader) { _ = s.greet(c, br) }
	}
	say := func(object string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, br *bufio.Reader) { _, _ = io.WriteString(c, object) }
	}
	for _, tc := range []struct {
		name, query string
		serve       func(net.Conn, *bufio.Reader)
		err         string
	}{
		{name: "key", query: "shared-key-file=key", serve: with(&server{key: "secret"})},
		{name: "key and user", query: both, serve: with(&server{key: "secret", user: "me", password: "pass"})},
		{name: "a user that nobody asks for", query: both, serve: with(&server{key: "secret"})},
		{name: "wrong key", query: "shared-key-file=other", serve: with(&server{key: "secret"}), err: `refuses us, "shared_key mismatch"`},
		{name: "wrong password", query: "shared-key-file=key&user=me&password-file=other", serve: with(&server{key: "secret", user: "me", password: "pass"}), err: "username/password mismatch"},
		{name: "wrong user", query: "shared-key-file=key&user=you&password-file=password", serve: with(&server{key: "secret", user: "me", password: "pass"}), err: "username/password mismatch"},
		{name: "no user", query: "shared-key-file=key", serve: with(&server{key: "secret", user: "me", password: "pass"}), err: "give user and password-file"},
		{name: "empty key", query: "shared-key-file=empty", serve: say(""), err: "empty is empty"},
		{name: "no file", query: "shared-key-file=none", serve: say(""), err: "none: no such file"},
		{name: "silence", query: "shared-key-file=key&timeout=100ms", serve: func(_ net.Conn, br *bufio.Reader) { _, _ = br.ReadByte() }, err: "does not greet"},
		{name: "end", query: "shared-key-file=key", serve: say(""), err: "EOF"},
		{name: "half", query: "shared-key-file=key", serve: say("\x92\xa4HE"), err: "unexpected EOF"},
		{name: "not HELO", query: "shared-key-file=key", serve: say("\x92\xa4OLEH\x80"), err: "instead of HELO"},
		{name: "no map", query: "shared-key-file=key", serve: say("\x92\xa4HELO\xa1x"), err: "not a reply"},
		{name: "no array", query: "shared-key-file=key", serve: say("\x80"), err: "not a reply"},
		{name: "HTTP", query: "shared-key-file=key", serve: say("HTTP/1.1 400 Bad Request\r\n"), err: "not a reply"},
		{name: "huge", query: "shared-key-file=key", serve: say("\xc6\x7f\xff\xff\xff" + strings.Repeat("x", 2*maxReply)), err: "longer than"},
		{name: "no keepalive", query: "shared-key-file=key", serve: say("\x92\xa4HELO\x81\xa9keepalive\xc2"), err: "keepalive"},
		{name: "PONG of a stranger", query: "shared-key-file=key", serve: func(c net.Conn, br *bufio.Reader) {
			_, _ = io.WriteString(c, "\x92\xa4HELO\x80\x95\xa4PONG\xc3\xa0\xa1h\xa1x")
			_, _ = io.Copy(io.Discard, br)
		}, err: "does not know the shared key"},
		{name: "PONG cut off", query: "shared-key-file=key", serve: func(c net.Conn, br *bufio.Reader) {
			_, _ = io.WriteString(c, "\x92\xa4HELO\x80\x92\xa4PONG\xc3")
			_, _ = io.Copy(io.Discard, br)
		}, err: "not a reply"},
	} {
		_, err := dial(t, tc.query, tc.serve)
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "pass\"")) {
			t.Errorf("%s: the error tells a secret: %v", tc.name, err)
		}
	}
}

func TestRefusalHasAType(t *testing.T) {
	s := server{key: "other"}
	_, err := dial(t, "shared-key-file=key", func(c net.Conn, br *bufio.Reader) { _ = s.greet(c, br) })
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Reason != "shared_key mismatch" {
		t.Errorf("%v", err)
	}
}

// TestKeyWanted: a server that asks for a key which we do not have.
func TestKeyWanted(t *testing.T) {
	c, err := dial(t, "", func(c net.Conn, br *bufio.Reader) { _ = (&server{key: "secret"}).greet(c, br) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Wait(ctx, 0); !errors.Is(err, ErrKeyWanted) {
		t.Errorf("%v", err)
	}
}

// TestAcks has a server answer two batches, the first of which is two messages.
func TestAcks(t *testing.T) {
	for _, tc := range []struct {
		name  string
		order []int // of the messages; -1: something else
		other string
		acked uint64
		err   string
	}{
		{name: "in order", order: []int{0, 1, 2}, acked: 2},
		{name: "out of order", order: []int{2, 1, 0}, acked: 2},
		{name: "a gap", order: []int{1, 2}, err: "closed the connection"},
		{name: "twice", order: []int{0, 0}, err: "waits for nothing"},
		{name: "a stranger's", order: []int{0, 1, -1}, other: string(ack("AAAAAAAAAAAAAAAAAAAAAA==")), acked: 1, err: "none of ours"},
		{name: "short", order: []int{-1}, other: string(ack("AAAA")), err: "none of ours"},
		{name: "long", order: []int{-1}, other: string(ack(strings.Repeat("A", 400))), err: "none of ours"},
		{name: "not base64", order: []int{-1}, other: string(ack(strings.Repeat("!", 24))), err: "none of ours"},
		{name: "no ack", order: []int{-1}, other: "\x81\xa3nak\xa1x", err: "no ack"},
		{name: "no text", order: []int{-1}, other: "\x81\xa3ack\x01", err: "not a reply"},
	} {
		c, err := dial(t, "", func(c net.Conn, br *bufio.Reader) {
			var s server
			var chunks []string
			for range 3 {
				m, err := s.read(br)
				if err != nil {
					t.Error(err)
				}
				chunks = append(chunks, m.chunk)
			}
			for _, n := range tc.order {
				answer := []byte(tc.other)
				if n >= 0 {
					answer = ack(chunks[n])
				}
				_, _ = c.Write(answer)
			}
			if tc.err == "" {
				_, _ = io.Copy(io.Discard, br) // until the client has seen it all
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		checkAcks(t, tc.name, c, tc.acked, tc.err)
	}
}

func checkAcks(t *testing.T, name string, c *conn, want uint64, wantErr string) {
	t.Helper()
	one, two := newTemplate(&ship.Meta{Stream: "1", Tag: "one"}, ""), newTemplate(&ship.Meta{Stream: "2", Tag: "two"}, "")
	dst := c.Append(nil, one, &ship.Record{Line: []byte("a")})
	dst = c.Append(dst, one, &ship.Record{Line: []byte("b")})
	if err := c.Send(t.Context(), c.Append(dst, two, &ship.Record{Line: []byte("c")})); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), c.Append(nil, two, &ship.Record{Line: []byte("d")})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	acked, err := uint64(0), error(nil)
	for err == nil && (acked < want || wantErr != "") {
		acked, err = c.Wait(ctx, acked)
	}
	if acked != want || wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
		t.Errorf("%s: acked %d, %v; want %d, %q", name, acked, err, want, wantErr)
	}
}

func TestTags(t *testing.T) {
	for _, tc := range []struct{ param, tag, name, want string }{
		{"", "t", "n", "t"}, {"", "", "n", "n"}, {"", "", "", "docker"}, {"p", "t", "n", "p"}, {"", strings.Repeat("x", 2*maxTag), "", strings.Repeat("x", maxTag)},
	} {
		if got := newTemplate(&ship.Meta{Tag: tc.tag, ContainerName: tc.name}, tc.param).tag; got != tc.want {
			t.Errorf("%q, %q, %q: %.40q, want %.40q", tc.param, tc.tag, tc.name, got, tc.want)
		}
	}
}

func TestEntry(t *testing.T) {
	for _, tc := range []struct {
		name   string
		r      ship.Record
		source string
		log    any
	}{
		{"stdout", ship.Record{Line: []byte("line")}, "stdout", "line"},
		{"stderr, cut, empty", ship.Record{Stderr: true, Cut: true, Line: nil}, "stderr", ""},
		{"not UTF-8", ship.Record{Line: []byte("\xff")}, "stdout", []byte("\xff")},
		{"long", ship.Record{Line: bytes.Repeat([]byte("x"), 70_000)}, "stdout", strings.Repeat("x", 70_000)},
	} {
		tc.r.Time, tc.r.Offset = 1_700_000_000_123_456_789, 0xdeadbeef
		all, err := readEntries(newTemplate(sinktest.Meta(), "").Append(nil, &tc.r))
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %v, %v", tc.name, all, err)
		}
		want := map[string]any{
			"source": tc.source, "id": "s1-00000000deadbeef", "container_id": strings.Repeat("0123456789abcdef", 4), "container_name": "web-1",
			"image_id": "sha256:feed", "image_name": `reg:5000/a"b]c\d`, "host": "host ü", "tag": "täg/web", "command": "sh -c \"echo \x01\"", "created": "2026-01-02T02:04:05.000000006Z",
			"com.docker.compose.project.config_files": "a]b", "com.docker.compose.project.config_hash": "c", "id~2": "forged", "team=x": "bad \ufffd utf-8",
		}
		if tc.r.Cut {
			want["cut"] = true
		}
		got := all[0].record
		if b, isBytes := tc.log.([]byte); isBytes {
			if raw, ok := got["log"].([]byte); !ok || !bytes.Equal(raw, b) {
				t.Errorf("%s: log is %v", tc.name, got["log"])
			}
		} else if got["log"] != tc.log {
			t.Errorf("%s: log is %.40v", tc.name, got["log"])
		}
		delete(got, "log")
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %v, want %v", tc.name, key, got[key], value)
			}
		}
		if len(got) != len(want) || all[0].at.UnixNano() != tc.r.Time {
			t.Errorf("%s: %v at %v", tc.name, got, all[0].at)
		}
	}
}

func TestFields(t *testing.T) {
	m := &ship.Meta{Stream: "s", Attrs: []ship.Attr{{Key: "level", Value: "forged"}}}
	for _, tc := range []struct {
		name string
		r    ship.Record
		want map[string]any
	}{
		{"neither", ship.Record{}, nil},
		{"level", ship.Record{Level: process.Warn}, map[string]any{"level": "warn"}},
		{"fields", ship.Record{Fields: []ship.Field{{}}}, map[string]any{"fields": map[string]any{"": ""}}},
		{"both, cut", ship.Record{Level: process.Info, Cut: true, Fields: sinktest.Fields()}, map[string]any{"level": "info", "cut": true, "fields": map[string]any{
			"status": int64(200), "took": 1.5, "ok": true, "none": nil, "list": `[1,{"a":"b"}]`, "big": "12345678901234567890",
			"user.name": `jo "ü"`, "user_name": "x", "status~2": "again", "log.record.uid": "forged", "id": "forged", "raw": []byte("\xff"), "k\ufffd": "",
		}}},
	} {
		all, err := readEntries(newTemplate(m, "").Append(nil, &tc.r))
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %v, %v", tc.name, all, err)
		}
		want := map[string]any{"source": "stdout", "id": "s-0000000000000000", "log": "", "level~2": "forged"}
		maps.Copy(want, tc.want)
		if d := cmp.Diff(want, all[0].record); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}

// TestTime has the specification's form of EventTime, byte by byte.
func TestTime(t *testing.T) {
	for ns, want := range map[int64]string{
		0: "d7000000000000000000", 1_000_000_001: "d7000000000100000001", 1_700_000_000_999_999_999: "d7006553f1003b9ac9ff",
		-1: "d7000000000000000000", math.MinInt64: "d7000000000000000000", math.MaxInt64: "d700ffffffff3b9ac9ff",
	} {
		if got := hex.EncodeToString(appendTime(nil, ns)); got != want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, New, []sinktest.URL{
		{URL: "forward://host?tag=x&compress=gzip"},
		{URL: "forward://host?shared-key-file=/etc/key&user=u&password-file=/etc/p"},
		{URL: "forward+tls://host?tls-min=1.3&compress=none"},
		{URL: "forward://host?compress=zstd", Err: "none, gzip"},
		{URL: "forward://host?user=u", Err: "belong together"},
		{URL: "forward://host?password-file=/etc/p", Err: "belong together"},
		{URL: "forward://host?user=u&password-file=/etc/p", Err: "shared key"},
		{URL: "forward://host?shared-key-file=/root/key", Err: "shared-key-file"},
		{URL: "forward://host?shared-key=x", Err: `did you mean "shared-key-file"`},
		{URL: "forward://user:secret@host", Err: "password"},
		{URL: "forward://host?tag=" + strings.Repeat("x", 2000), Err: "longer"},
	})
	if s := sinktest.Open(t, New, sinktest.Host(), "forward://h"); s.(*collector).Addr != "h:24224" {
		t.Error(s.(*collector).Addr)
	}
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte("\x81\xa3ack\xb8AAAAAAAAAAAAAAAAAAAAAA=="), []byte("\x92\xa4HELO\x83\xa5nonce\xc4\x01n\xa4auth\xa0\xa9keepalive\xc3"))
	f.Add([]byte("\xdf\xff\xff\xff\xff"), []byte("\x95\xa4PONG\xc2\xa2no\xa0\xa0"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		r := replies{r: io.MultiReader(bytes.NewReader(first), bytes.NewReader(second))}
		all := append(bytes.Clone(first), second...)
		for {
			object, err := r.next()
			if err != nil {
				if errors.Is(err, io.EOF) != (len(all) == 0) {
					t.Fatalf("%v with %q left", err, all)
				}
				return
			}
			if !bytes.HasPrefix(all, object) || len(object) == 0 {
				t.Fatalf("%q of %q", object, all)
			}
			all = all[len(object):]
			_, _ = parseAck(object)
			_, _ = parseHello(object)
			_ = (&login{}).checkPong(object, hello{}, "")
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("line"), "key", "value", int64(1), true)
	f.Add([]byte("\xff\""), "\xff", "\n", int64(-1), false)
	f.Fuzz(func(t *testing.T, line []byte, key, value string, ns int64, flag bool) {
		m := &ship.Meta{Stream: value, Host: key, Attrs: []ship.Attr{{Key: key, Value: value}, {Key: key, Value: value}}}
		all, err := readEntries(newTemplate(m, "t").Append(nil, &ship.Record{Time: ns, Stderr: flag, Cut: flag, Line: line}))
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		text, isText := all[0].record["log"].(string)
		if raw, isBytes := all[0].record["log"].([]byte); isBytes {
			text, isText = string(raw), true
		}
		if !isText || text != string(line) {
			t.Errorf("%v of %q", all[0].record, line)
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	c, err := newConn(nil, wire.DefaultTimeout, false)
	if err != nil {
		t.Fatal(err)
	}
	tmpl, buf := newTemplate(sinktest.Meta(), ""), make([]byte, 0, 1<<20)
	for _, line := range []string{"plain", "not \xff UTF-8"} {
		r := ship.Record{Line: []byte(line), Level: process.Error, Fields: sinktest.Fields()}
		if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = c.Append(buf, tmpl, &r) }); n != 0 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
	src := bytes.NewReader(nil)
	replies := replies{r: src}
	answer := ack("AAAAAAAAAAAAAAAAAAAAAA==")
	n := testing.AllocsPerRun(100, func() {
		src.Reset(answer)
		object, err := replies.next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseAck(object); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("an answer: %v allocations", n)
	}
}
