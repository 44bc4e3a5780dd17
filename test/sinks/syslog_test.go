package sinks

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/relp"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

type newSink func(*url.URL, sink.Host) (ship.Sink, error)

func rsyslogd(dir, conf string) *exec.Cmd {
	return exec.Command("/usr/sbin/rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
}

// syslogNG is where scripts/setup.sh puts it: as a package it excludes rsyslog.
const syslogNG = "/var/cache/dockline-test/syslog-ng"

func syslogNGd(dir, conf string) *exec.Cmd {
	modules, _ := filepath.Glob(syslogNG + "/usr/lib/syslog-ng/[0-9]*")
	cmd := exec.Command(syslogNG+"/usr/sbin/syslog-ng", "-F", "--stderr", "--no-caps", "-f", conf,
		"--module-path", strings.Join(modules, ":"), "-R", filepath.Join(dir, "persist"),
		"-p", filepath.Join(dir, "pid"), "-c", filepath.Join(dir, "ctl"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+syslogNG+"/usr/lib/syslog-ng")
	return cmd
}

func TestSyslog(t *testing.T) {
	const tls = "tls-ca=ca.pem&tls-cert=client.pem&tls-key=client.key"
	for _, tc := range []struct {
		page, peer string
		args       func(dir, conf string) *exec.Cmd
		scheme     string
		port       int
		params     string
		make       newSink
	}{
		{"syslog.md", "rsyslog", rsyslogd, "syslog+tcp", 601, "", syslog.New},
		{"syslog.md", "rsyslog", rsyslogd, "syslog+tls", 6514, tls, syslog.New},
		{"syslog.md", "rsyslog", rsyslogd, "syslog+udp", 514, "", syslog.New},
		{"syslog.md", "rsyslog", rsyslogd, "syslog+tcp", 601, "framing=newline", syslog.New},
		{"syslog.md", "rsyslog", rsyslogd, "syslog+tls", 6514, "format=rfc3164&" + tls, syslog.New},
		{"syslog.md", "rsyslog", rsyslogd, "syslog+tcp", 601, "format=rfc3164&framing=newline&time=bsd", syslog.New},
		{"syslog.md", "syslog-ng", syslogNGd, "syslog+tcp", 601, "", syslog.New},
		{"syslog.md", "syslog-ng", syslogNGd, "syslog+tls", 6514, tls, syslog.New},
		{"syslog.md", "syslog-ng", syslogNGd, "syslog+udp", 514, "", syslog.New},
		{"syslog.md", "syslog-ng", syslogNGd, "syslog+tcp", 5140, "framing=newline", syslog.New},
		{"syslog.md", "syslog-ng", syslogNGd, "syslog+tcp", 5141, "framing=newline&format=rfc3164", syslog.New},
		{"relp.md", "rsyslog", rsyslogd, "relp", 2514, "", relp.New},
		{"relp.md", "rsyslog", rsyslogd, "relp+tls", 2515, tls, relp.New},
	} {
		t.Run(tc.peer+" "+tc.scheme+" "+strings.TrimSuffix(tc.params, tls), func(t *testing.T) {
			p := start(t, tc.page, tc.peer, tc.args)
			u, err := url.Parse(fmt.Sprintf("%s://127.0.0.1:%d?facility=local1&%s", tc.scheme, p.ports[tc.port], tc.params))
			if err != nil {
				t.Fatal(err)
			}
			s, err := tc.make(u, p.host)
			if err != nil {
				t.Fatal(err)
			}
			e := expected{newline: strings.Contains(tc.params, "newline"), bsd: strings.Contains(tc.params, "3164"), short: strings.Contains(tc.params, "bsd")}
			if tc.scheme == "syslog+udp" {
				// A socket that listens is not seen by a sender.
				eventually(t, func() error { return heard(t, p, s) })
				p.skip = line(0)
				sendUDP(t, s, p, e)
				return
			}
			const batches = 20
			send(t, s, batches)
			for n, m := range p.messages(t, batches*records) {
				e.check(t, m, n)
			}
		})
	}
}

const records = 500

func meta() *ship.Meta {
	return &ship.Meta{
		Stream: "s1", ContainerID: strings.Repeat("ab", 32), ContainerName: "web", Host: "node-1", Tag: "web-1",
		Attrs: []ship.Attr{{Key: "team", Value: `a"b]c\d ü`}},
	}
}

func send(t *testing.T, s ship.Sink, batches int) {
	t.Helper()
	var conn ship.Conn
	eventually(t, func() (err error) {
		conn, err = s.Dial(t.Context())
		return err
	})
	tmpl := s.Prepare(meta())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		for i := range batches {
			if err := conn.Send(ctx, batch(conn, tmpl, i*records, records)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for acked := uint64(0); acked < uint64(batches); {
		var err error
		if acked, err = conn.Wait(ctx, acked); err != nil {
			t.Fatalf("acked %d, %v", acked, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func batch(conn ship.Conn, tmpl ship.Template, first, n int) (dst []byte) {
	for i := first; i < first+n; i++ {
		dst = conn.Append(dst, tmpl, &ship.Record{
			Offset: uint64(i), Time: 1_700_000_000_123_456_789, Stderr: i%2 == 1, Cut: i == 7, Line: []byte(line(i)),
		})
	}
	return dst
}

// line has a few that are awkward: empty, with line feeds, long. None ends in a
// line feed, which some servers cut off.
func line(n int) string {
	switch n % 100 {
	case 1:
		return ""
	case 2:
		return "two\nlines\twith [brackets] and ü"
	case 3:
		return strings.Repeat("long ", 10_000)
	}
	return fmt.Sprintf("line %d", n)
}

// expected is how a message is to arrive.
type expected struct{ newline, bsd, short bool }

func (e expected) check(t *testing.T, m message, n int) {
	t.Helper()
	pri, source, text := "142", "stdout", line(n)
	if n%2 == 1 {
		pri, source = "139", "stderr"
	}
	if e.newline {
		text = strings.ReplaceAll(text, "\n", "#012")
	}
	if e.bsd && n == 7 {
		text += " [cut]"
	}
	if e.bsd { // rsyslog counts the blank to the message, and does without a structured data of its own
		m.Msg = strings.TrimPrefix(m.Msg, " ")
	}
	when := "2023-11-14T22:13:20.123456"
	if e.short {
		when = "-11-14T22:13:20" // the year is a guess
	}
	if m.Pri != pri || m.Host != "node-1" || m.App != "web-1" || m.Procid != "abababababab" || m.Msg != text || !strings.Contains(m.Time, when) {
		t.Fatalf("record %d: %.600q", n, m)
	}
	if e.bsd {
		return
	}
	params := []string{fmt.Sprintf(`id="s1-%016x"`, n), `container_id="` + strings.Repeat("ab", 32) + `"`, `container_name="web"`, `source="` + source + `"`, `team="a\"b\]c\\d ü"`}
	if n == 7 {
		params = append(params, `cut="true"`)
	}
	for _, param := range params {
		if !strings.Contains(m.SD, " "+param) {
			t.Fatalf("record %d: no %s in %s", n, param, m.SD)
		}
	}
	if !strings.HasPrefix(m.SD, "[dockline@32473 ") || strings.Count(m.SD, `="`) != len(params) {
		t.Fatalf("record %d: %s", n, m.SD)
	}
}

// heard sends a datagram and looks whether it arrived.
func heard(t *testing.T, p *peer, s ship.Sink) error {
	conn, err := s.Dial(t.Context())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Send(t.Context(), batch(conn, s.Prepare(meta()), 0, 1)); err != nil {
		return err
	}
	out, err := os.ReadFile(filepath.Join(p.dir, "out"))
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("nothing arrived")
	}
	return err
}

// sendUDP sends one record at a time: as many at once would be lost on the way.
func sendUDP(t *testing.T, s ship.Sink, p *peer, e expected) {
	t.Helper()
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	tmpl := s.Prepare(meta())
	for i, n := range []int{4, 5, 1, 2, 7} {
		if err := conn.Send(t.Context(), batch(conn, tmpl, n, 1)); err != nil {
			t.Fatal(err)
		}
		e.check(t, p.messages(t, i+1)[i], n)
	}
}

// TestNobodyCountsWhoIsRefused: servers that ask for a certificate, and get
// none or a stranger's, take records into their kernel before they say so.
func TestNobodyCountsWhoIsRefused(t *testing.T) {
	for _, tc := range []struct {
		page, peer string
		args       func(dir, conf string) *exec.Cmd
		scheme     string
		port       int
		make       newSink
	}{
		{"syslog.md", "rsyslog", rsyslogd, "syslog+tls", 6514, syslog.New},
		{"syslog.md", "syslog-ng", syslogNGd, "syslog+tls", 6514, syslog.New},
		{"relp.md", "rsyslog", rsyslogd, "relp+tls", 2515, relp.New},
	} {
		p := start(t, tc.page, tc.peer, tc.args)
		awaitPort(t, p.ports[tc.port])
		stranger(t, p.host.Config)
		for _, params := range []string{"", "tls-cert=stranger.pem&tls-key=stranger.key"} {
			u, err := url.Parse(fmt.Sprintf("%s://127.0.0.1:%d?tls-ca=ca.pem&%s", tc.scheme, p.ports[tc.port], params))
			if err != nil {
				t.Fatal(err)
			}
			s, err := tc.make(u, p.host)
			if err != nil {
				t.Fatal(err)
			}
			acked, err := try(t, s)
			if acked != 0 || err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%s, %s, %q: acked %d, %v", tc.peer, tc.scheme, params, acked, err)
			}
		}
	}
}

// stranger puts a certificate there whose authority nobody knows.
func stranger(t *testing.T, dir string) {
	t.Helper()
	ca, err := testcert.New("a stranger")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(24*time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(dir, "stranger"); err != nil {
		t.Fatal(err)
	}
}

func awaitPort(t *testing.T, port int) {
	t.Helper()
	eventually(t, func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// try sends one record and waits for what becomes of it.
func try(t *testing.T, s ship.Sink) (uint64, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := s.Dial(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Send(ctx, batch(conn, s.Prepare(meta()), 0, 1)); err != nil {
		return 0, err
	}
	return conn.Wait(ctx, 0)
}
