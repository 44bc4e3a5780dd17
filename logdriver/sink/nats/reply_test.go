package nats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

// session connects a sink to what plays a server.
func session(t *testing.T, serve func(c net.Conn, br *bufio.Reader)) (ship.Sink, ship.Conn, error) {
	t.Helper()
	s := sinktest.Open(t, newOne, sinktest.Host(), "nats://"+sinktest.Serve(t, serve)+"?subject=logs&timeout=5s")
	conn, err := s.Dial(t.Context())
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return s, conn, err
}

func TestOpen(t *testing.T) {
	for _, tc := range []struct{ name, greeting, answer, err string }{
		{"no server of NATS", "SSH-2.0-OpenSSH", "", "is it the port for clients"},
		{"no JSON", "INFO {", "", "INFO"},
		{"no headers", `INFO {"max_payload":1}`, "", "no headers"},
		{"no size", `INFO {"headers":true}`, "", "max_payload"},
		{"wants TLS", `INFO {"headers":true,"max_payload":10240,"tls_required":true}`, "", "begin the collector's URL with nats+tls"},
		{"full", "INFO " + greetingOK, "-ERR 'maximum connections exceeded'", "maximum connections exceeded"},
		{"more INFO", "INFO " + greetingOK, "+OK\r\nINFO {}\r\nPING\r\nPONG", ""},
		{"lower case", "info " + greetingOK, "pong", ""},
		{"something else", "INFO " + greetingOK, "HELLO", "HELLO"},
		{"nothing", "INFO " + greetingOK, "", "EOF"},
		{"a long line", "INFO {" + strings.Repeat(" ", 200<<10) + greetingOK[1:], "PONG", ""},
		{"too long a line", "INFO {" + strings.Repeat(" ", 2<<20) + greetingOK[1:], "PONG", "more than"},
	} {
		_, _, err := session(t, func(c net.Conn, br *bufio.Reader) {
			_, _ = fmt.Fprintf(c, "%s\r\n", tc.greeting)
			for range 3 {
				if _, err := br.ReadString('\n'); err != nil {
					return
				}
			}
			if tc.answer != "" {
				_, _ = fmt.Fprintf(c, "%s\r\n", tc.answer)
				_, _ = io.Copy(io.Discard, br)
			}
		})
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
	}
}

// TestReplies: %s is the subject of the first message, %t that of the second.
func TestReplies(t *testing.T) {
	const yes = "MSG %s 1 26\r\n{\"stream\":\"LOGS\", \"seq\":1}\r\n"
	msg := func(payload string) string { return fmt.Sprintf("MSG %%s 1 %d\r\n%s\r\n", len(payload), payload) }
	for _, tc := range []struct {
		name, say string
		acked     uint64
		err       string
		is        error
	}{
		{"both", yes + strings.Replace(yes, "%s", "%t", 1), 1, "", nil},
		{"the second first, one twice", strings.Replace(yes, "%s", "%t", 1) + strings.Replace(yes, "%s", "%t", 1) + yes, 1, "", nil},
		{"a duplicate", yes + strings.Replace(msg(`{"stream":"LOGS", "seq":1,"duplicate": true}`), "%s", "%t", 1), 1, "", nil},
		{"with a domain, in another order", yes + strings.Replace(msg(`{ "seq":1, "domain":"hub", "stream":"LOGS" }`), "%s", "%t", 1), 1, "", nil},
		{"with headers, and a reply", strings.Replace(yes, "%s 1", "%s 1 x", 1) + "HMSG %t 1 12 38\r\nNATS/1.0\r\n\r\n{\"stream\":\"LOGS\", \"seq\":1}\r\n", 1, "", nil},
		{"nobody", "HMSG %s 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", 0, "nats stream add", nil},
		{"full", msg(`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"LOGS","seq":0}`), 0, "maximum bytes exceeded", ship.ErrBusy},
		{"too many", msg(`{"error":{"code":429,"err_code":10167,"description":"too many requests"},"stream":"LOGS","seq":0}`), 0, "too many requests", ship.ErrBusy},
		{"sealed", msg(`{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"}}`), 0, "as it is set up", nil},
		{"too large", msg(`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}`), 0, "max_msg_size", nil},
		{"no stream", msg(`{"status":"ok"}`), 0, "no stream of JetStream", nil},
		{"no JSON", msg("yes"), 0, "not what a NATS server says", ErrProtocol},
		{"nothing", msg(""), 0, "not what a NATS server says", ErrProtocol},
		{"a message that was not sent", "MSG %s9 1 26\r\n{\"stream\":\"LOGS\", \"seq\":1}\r\n", 0, "was not sent", ErrProtocol},
		{"another subject", "MSG logs 1 26\r\n{\"stream\":\"LOGS\", \"seq\":1}\r\n", 0, "message", ErrProtocol},
		{"no number", "MSG %sx 1 26\r\n{\"stream\":\"LOGS\", \"seq\":1}\r\n", 0, "message", ErrProtocol},
		{"no length", "MSG %s 1\r\n", 0, "message", ErrProtocol},
		{"huge", "MSG %s 1 999999999999\r\n", 0, "message", ErrProtocol},
		{"a wrong length", "MSG %s 1 25\r\n{\"stream\":\"LOGS\", \"seq\":1}\r\n", 0, "does not end", ErrProtocol},
		{"headers longer than all", "HMSG %s 1 30 26\r\n{\"stream\":\"LOGS\", \"seq\":1}\r\n", 0, "message", ErrProtocol},
		{"not allowed", "-ERR 'Permissions Violation for Publish to \"logs\"'\r\n", 0, "allowed to publish", nil},
		{"an error", "-ERR 'Stale Connection'\r\n", 0, "Stale Connection", nil},
		{"cut", "MSG %s 1 26\r\n{\"stream\":", 0, "closed the connection", nil},
	} {
		s, conn, err := session(t, func(c net.Conn, br *bufio.Reader) {
			if err := greet(c, br, greetingOK); err != nil {
				t.Error(err)
				return
			}
			first, err1 := readMessage(br)
			second, err2 := readMessage(br)
			if err := errors.Join(err1, err2); err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, strings.NewReplacer("%s", first.reply, "%t", second.reply).Replace(tc.say))
			if tc.name != "cut" {
				_, _ = io.Copy(io.Discard, br)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		tmpl := s.Prepare(sinktest.Meta())
		batch := conn.Append(conn.Append(nil, tmpl, &ship.Record{}), tmpl, &ship.Record{Offset: 1})
		if err := conn.Send(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		acked, err := conn.Wait(ctx, 0)
		cancel()
		if acked != tc.acked || tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: acked %d, %v, want %d, %q", tc.name, acked, err, tc.acked, tc.err)
		}
		_ = conn.Close()
	}
}

// TestPing: the server's pings are answered, while it takes nothing, too.
func TestPing(t *testing.T) {
	answered := make(chan error, 1)
	_, conn, err := session(t, func(c net.Conn, br *bufio.Reader) {
		err := greet(c, br, greetingOK)
		if err == nil {
			_, err = io.WriteString(c, "PING\r\nPING\r\n")
		}
		line, readErr := br.ReadString('\n')
		if line != "PONG\r\n" {
			err = errors.Join(err, fmt.Errorf("%q", line))
		}
		answered <- errors.Join(err, readErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	_ = conn.Close()
}

// TestHole: later messages are acknowledged for a while and an earlier one is not.
func TestHole(t *testing.T) {
	s, conn, err := session(t, func(c net.Conn, br *bufio.Reader) {
		if err := greet(c, br, greetingOK); err != nil {
			t.Error(err)
		}
		for i := 0; ; i++ {
			m, err := readMessage(br)
			if err != nil {
				return
			}
			if i != 1 {
				_, _ = c.Write(m.answer(`{"stream":"LOGS", "seq":7}`))
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	tmpl, began := s.Prepare(sinktest.Meta()), time.Now()
	for n := uint64(0); ; n++ {
		if err = conn.Send(t.Context(), conn.Append(nil, tmpl, &ship.Record{Offset: n})); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond) // what the peer says a second later matters
	}
	acked, err := conn.Wait(t.Context(), 1)
	if acked != 1 || !errors.Is(err, errHole) || time.Since(began) < holePatience {
		t.Errorf("acked %d, %v after %v", acked, err, time.Since(began))
	}
}

// TestOneServerIsOff: a server that does not answer leaves time for the others.
func TestOneServerIsOff(t *testing.T) {
	on := sinktest.Serve(t, func(c net.Conn, br *bufio.Reader) {
		_ = greet(c, br, greetingOK) // whoever dialled sees what is wrong
		_, _ = io.Copy(io.Discard, br)
	})
	var urls []*url.URL
	for _, addr := range []string{sinktest.Blackhole(t), on} {
		urls = append(urls, &url.URL{Scheme: "nats", Host: addr, RawQuery: "subject=logs&timeout=2s"})
	}
	s, err := New(urls, sinktest.Host())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 { // in whatever order
		conn, err := s.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}

func FuzzTaken(f *testing.F) {
	f.Add([]byte(`{"stream":"LOGS", "seq":1}`))
	f.Add([]byte(`{"stream":"LOGS","seq":0,"error":{}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c := &conn{cluster: &cluster{}, info: &info{}}
		_ = c.judge(nil, payload)
		_ = c.judge(payload, payload)
	})
}
