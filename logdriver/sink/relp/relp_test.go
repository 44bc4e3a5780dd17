package relp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

func TestMain(m *testing.M) { testleak.Main(m) }

const goodOffers = "200 OK\nrelp_version=0\nrelp_software=librelp\ncommands=syslog"

func TestConformance(t *testing.T) {
	for _, scheme := range []string{"relp", "relp+tls"} {
		t.Run(scheme, func(t *testing.T) {
			sinktest.Run(t, sinktest.Protocol{
				Scheme: scheme, New: New, Confirms: true, Next: nextMessage,
				Greet: func(c net.Conn, br *bufio.Reader) error { return greet(c, br, "1 rsp %d %s\n", goodOffers) },
			})
		})
	}
}

// greet reads the open frame and answers.
func greet(c net.Conn, br *bufio.Reader, format, data string) error {
	_, cmd, got, err := readFrame(br)
	if err != nil || cmd != cmdOpen || got != offers {
		return fmt.Errorf("open: %q %q: %w", cmd, got, err)
	}
	_, err = fmt.Fprintf(c, format, len(data), data)
	return err
}

// readFrame reads a client's frame.
func readFrame(br *bufio.Reader) (txnr uint32, cmd, data string, err error) {
	var length int
	if _, err := fmt.Fscanf(br, "%d %s %d", &txnr, &cmd, &length); err != nil {
		return 0, "", "", err
	}
	rest := make([]byte, length+1)
	if length > 0 {
		rest = make([]byte, length+2)
	}
	if _, err := io.ReadFull(br, rest); err != nil {
		return 0, "", "", err
	}
	if rest[len(rest)-1] != '\n' {
		return 0, "", "", fmt.Errorf("frame %d ends with %q", txnr, rest[len(rest)-1])
	}
	if length == 0 {
		return txnr, cmd, "", nil
	}
	return txnr, cmd, string(rest[1 : len(rest)-1]), nil
}

func nextMessage(br *bufio.Reader) ([]string, []byte, error) {
	txnr, cmd, data, err := readFrame(br)
	if err != nil || cmd != cmdSyslog {
		return nil, nil, errors.Join(err, io.EOF)
	}
	line, err := sinktest.Line([]byte(data))
	return []string{line}, fmt.Appendf(nil, "%d rsp 6 200 OK\n", txnr), err
}

// session connects a client to serve, which talks behind the greeting.
func session(t *testing.T, greeting, data string, serve func(c net.Conn, br *bufio.Reader)) (*conn, error) {
	t.Helper()
	addr := sinktest.Serve(t, func(c net.Conn, br *bufio.Reader) {
		if err := greet(c, br, greeting, data); err != nil {
			t.Error(err)
			return
		}
		serve(c, br)
	})
	c, err := sinktest.Open(t, New, sinktest.Host(), "relp://"+addr+"?timeout=5s").Dial(t.Context())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*conn), nil
}

func TestOpen(t *testing.T) {
	const rsp = "1 rsp %d %s\n"
	for _, tc := range []struct{ name, format, data, err string }{
		{name: "version 1", format: rsp, data: "200 OK\nrelp_version=1\ncommands=hint,syslog\n"},
		{name: "no version", format: rsp, data: "200 OK\ncommands=syslog"},
		{name: "version 2", format: rsp, data: "200 OK\nrelp_version=2\ncommands=syslog", err: "version"},
		{name: "no syslog", format: rsp, data: "200 OK\nrelp_version=1\ncommands=syslogx", err: "syslog command"},
		{name: "no offers", format: rsp, data: "200", err: "syslog command"},
		{name: "refused", format: rsp, data: "500 go away", err: `500 "go away"`},
		{name: "code", format: rsp, data: "20x OK", err: "not a RELP frame"},
		{name: "other txnr", format: "2 rsp %d %s\n", data: goodOffers, err: "instead of"},
		{name: "other command", format: "1 syslog %d %s\n", data: goodOffers, err: "instead of"},
		{name: "server closes", format: "0 serverclose 0\n%.0d%.0s", data: "", err: ErrServerClosed.Error()},
		{name: "too long", format: rsp, data: strings.Repeat("x", maxData+1), err: "more than"},
		{name: "cut off", format: "1 rsp 9%d %s", data: goodOffers, err: io.ErrUnexpectedEOF.Error()},
	} {
		_, err := session(t, tc.format, tc.data, func(net.Conn, *bufio.Reader) {})
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	s := sinktest.Open(t, New, sinktest.Host(), "relp://"+sinktest.Idle(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestAnswers has a server answer two batches of three frames (2 to 4, 5 to 7).
func TestAnswers(t *testing.T) {
	const ok = " rsp 6 200 OK\n"
	for _, tc := range []struct {
		name, answers string
		acked         uint64
		err           string
	}{
		{name: "in order", answers: "2" + ok + "3" + ok + "4" + ok + "5" + ok + "6" + ok + "7" + ok, acked: 2},
		{name: "out of order", answers: "7" + ok + "5" + ok + "4" + ok + "3" + ok + "2" + ok + "6" + ok, acked: 2},
		{name: "gap", answers: "2" + ok + "4" + ok + "5" + ok + "6" + ok + "7" + ok + "0 serverclose 0\n", err: "closed the session"},
		{name: "refused", answers: "2" + ok + "3" + ok + "4" + ok + "5 rsp 14 500 disk full!\n", acked: 1, err: `frame 5 with 500 "disk full!"`},
		{name: "twice", answers: "2" + ok + "2" + ok, err: "waits for none"},
		{name: "twice ahead", answers: "3" + ok + "3" + ok, err: "waits for none"},
		{name: "not sent", answers: "8" + ok, err: "waits for none"},
		{name: "open again", answers: "1" + ok, err: "waits for none"},
		{name: "zero", answers: "0" + ok, err: "waits for none"},
		{name: "no data", answers: "2 rsp 0\n", err: "not a RELP frame"},
		{name: "command", answers: "2 syslog 6 200 OK\n", err: "command"},
		{name: "oversize", answers: "2 rsp 999999999 200 OK\n", err: "more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := session(t, "1 rsp %d %s\n", goodOffers, func(c net.Conn, br *bufio.Reader) {
				for range 6 {
					_, _, _, _ = readFrame(br)
				}
				_, _ = io.WriteString(c, tc.answers)
				_, _ = io.Copy(io.Discard, br)
			})
			if err != nil {
				t.Fatal(err)
			}
			checkAnswers(t, c, tc.acked, tc.err)
		})
	}
}

func checkAnswers(t *testing.T, c *conn, want uint64, wantErr string) {
	t.Helper()
	for range 2 {
		if err := c.Send(t.Context(), threeFrames(c)); err != nil {
			t.Fatal(err)
		}
	}
	acked, err := uint64(0), error(nil)
	for err == nil && (acked < want || wantErr != "") {
		acked, err = c.Wait(t.Context(), acked)
	}
	if acked != want || wantErr == "" && err != nil || wantErr != "" && !strings.Contains(err.Error(), wantErr) {
		t.Errorf("acked %d, %v; want %d, %q", acked, err, want, wantErr)
	}
}

func threeFrames(c *conn) (dst []byte) {
	tmpl := (&collector{Target: &wire.Target{}}).Prepare(sinktest.Meta())
	for range 3 {
		dst = c.Append(dst, tmpl, &ship.Record{Line: []byte("x")})
	}
	return dst
}

func TestRefusalHasAType(t *testing.T) {
	_, err := session(t, "1 rsp %d %s\n", "503 "+strings.Repeat("no ", 1000), func(net.Conn, *bufio.Reader) {})
	var refused *ResponseError
	if !errors.As(err, &refused) || refused.Code != "503" || refused.Txnr != 1 || len(refused.Text) != maxText {
		t.Errorf("%v", err)
	}
}

func TestCloseSaysGoodbye(t *testing.T) {
	for _, answer := range []string{"5 rsp 0\n0 serverclose 0\n", "5 rsp 0 \n", "0 serverclose 0 \n", ""} {
		said := make(chan string, 1)
		c, err := session(t, "1 rsp %d %s\n", goodOffers, func(c net.Conn, br *bufio.Reader) {
			for range 3 {
				_, _, _, _ = readFrame(br)
			}
			txnr, cmd, data, err := readFrame(br)
			said <- fmt.Sprint(txnr, cmd, data, err)
			_, _ = io.WriteString(c, answer)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(t.Context(), threeFrames(c)); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if got := <-said; got != "5 close  <nil>" && got != fmt.Sprint(uint32(5), cmdClose, "", nil) {
			t.Errorf("the server was told %q", got)
		}
	}
}

// TestTxnrRollsOver starts just before the greatest transaction number.
func TestTxnrRollsOver(t *testing.T) {
	start := uint64(maxTxnr - 4)
	var want []uint32
	c, err := session(t, "1 rsp %d %s\n", goodOffers, func(c net.Conn, br *bufio.Reader) {
		for range 6 {
			txnr, _, _, _ := readFrame(br)
			want = append(want, txnr)
			_, _ = fmt.Fprintf(c, "%d rsp 6 200 OK\n", txnr)
		}
		_, _ = io.Copy(io.Discard, br)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.appended, c.sent, c.window.Done = start, start, start
	if err := c.ledger.Begin(start); err != nil {
		t.Fatal(err)
	}
	c.ledger.Advance(start)
	checkAnswers(t, c, 2, "")
	if got := fmt.Sprint(want); got != "[999999997 999999998 999999999 1 2 3]" {
		t.Errorf("transaction numbers %v", got)
	}
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, New, []sinktest.URL{
		{URL: "relp://host?facility=local0&timeout=1s"},
		{URL: "relp://host?facility=x", Err: "facility"},
		{URL: "relp://host?window=1", Err: "window"},
		{URL: "relp://host?timeout=0s", Err: "within"},
		{URL: "relp://", Err: "host is missing"},
	})
	if s := sinktest.Open(t, New, sinktest.Host(), "relp://h"); s.(*collector).Addr != "h:2514" {
		t.Error(s.(*collector).Addr)
	}
}

func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		"1 rsp 6 200 OK\n", "0 serverclose 0\n", "0 serverclose 0 \n", "999999999 rsp 3 200\n2 rsp 0\n", "1 rsp 2 200 OK\n", "",
		"1000000000 rsp 0\n", "1 rsp 16385 x", " 1 rsp 0\n", "1 r2p 0\n", "1 rsp\n", "1\n", "1 rsp 000000000\n", "1 rsp 5 a\nb\nc\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, rest := newFrameReader(strings.NewReader(s)), s
		for {
			fr, err := r.next()
			if err != nil {
				if errors.Is(err, io.EOF) != (rest == "") {
					t.Fatalf("%v with %q left", err, rest)
				}
				return
			}
			rest = checkFrame(t, fr, rest)
		}
	})
}

// checkFrame compares a frame with the text that it was read from.
func checkFrame(t *testing.T, fr frame, text string) (rest string) {
	t.Helper()
	var txnr, length uint32
	var cmd string
	if _, err := fmt.Sscanf(text, "%d %s %d", &txnr, &cmd, &length); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if fr.txnr != txnr || fr.command != cmd || len(fr.data) != int(length) || length > maxData {
		t.Fatalf("%q reads %+v", text, fr)
	}
	head := strings.SplitN(text, " ", 3)
	if body := strings.TrimLeft(head[2], "0123456789"); length > 0 || body[0] == ' ' {
		if body[1:1+length] != string(fr.data) || body[1+length] != '\n' {
			t.Fatalf("%q reads %q", text, fr.data)
		}
		return body[length+2:]
	} else {
		return body[1:]
	}
}

func TestReadingAnswersDoesNotAllocate(t *testing.T) {
	src := strings.NewReader("")
	r := newFrameReader(src)
	n := testing.AllocsPerRun(100, func() {
		src.Reset("123456 rsp 6 200 OK\n")
		fr, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseResponse(fr); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	c := newConn(nil, wire.DefaultTimeout)
	tmpl, buf := (&collector{Target: &wire.Target{}}).Prepare(sinktest.Meta()), make([]byte, 0, 4096)
	r := ship.Record{Time: 1_700_000_000_000_000_000, Line: []byte(strings.Repeat("x", 120))}
	b.ReportAllocs()
	for b.Loop() {
		r.Time += 1000
		buf = c.Append(buf[:0], tmpl, &r)
	}
}

func BenchmarkAnswer(b *testing.B) {
	src := strings.NewReader("")
	r := newFrameReader(src)
	b.ReportAllocs()
	for b.Loop() {
		src.Reset("123456 rsp 6 200 OK\n")
		fr, _ := r.next()
		_, _ = parseResponse(fr)
	}
}
