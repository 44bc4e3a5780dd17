// Package sinks tests sinks against real collectors.
package sinks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/relp"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

const rsyslogConf = `
global(workDirectory="%[1]s" maxMessageSize="1m" parser.escapeControlCharactersOnReceive="off")
module(load="imtcp")
module(load="imrelp")
template(name="json" type="list") {
  constant(value="{")
  property(name="pri" outname="pri" format="jsonf") constant(value=",")
  property(name="timestamp" outname="time" dateFormat="rfc3339" format="jsonf") constant(value=",")
  property(name="hostname" outname="host" format="jsonf") constant(value=",")
  property(name="app-name" outname="app" format="jsonf") constant(value=",")
  property(name="procid" outname="procid" format="jsonf") constant(value=",")
  property(name="structured-data" outname="sd" format="jsonf") constant(value=",")
  property(name="msg" outname="msg" format="jsonf")
  constant(value="}\n")
}
ruleset(name="out") { action(type="omfile" file="%[1]s/out" template="json") }
input(type="imtcp" address="127.0.0.1" port="%[2]d" supportOctetCountedFraming="on" ruleset="out")
input(type="imrelp" address="127.0.0.1" port="%[3]d" maxDataSize="1m" ruleset="out")
`

// message is a record as rsyslog has understood it.
type message struct {
	Pri, Time, Host, App, Procid, SD, Msg string
}

type rsyslog struct {
	dir       string
	tcp, relp int
}

// startRsyslog runs an rsyslogd of our own on loopback until the test ends.
func startRsyslog(t *testing.T) *rsyslog {
	t.Helper()
	bin := "/usr/sbin/rsyslogd"
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("%v: run scripts/setup.sh", err)
	}
	r := &rsyslog{dir: t.TempDir(), tcp: freePort(t), relp: freePort(t)}
	conf := filepath.Join(r.dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, rsyslogConf, r.dir, r.tcp, r.relp), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-n", "-f", conf, "-i", filepath.Join(r.dir, "pid"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("rsyslogd: %s", said.String())
		}
	})
	return r
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// eventually repeats try until it succeeds: rsyslogd announces nothing.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(err)
		}
	}
}

// messages waits until rsyslogd has written n.
func (r *rsyslog) messages(t *testing.T, n int) []message {
	t.Helper()
	var all []message
	eventually(t, func() error {
		out, err := os.ReadFile(filepath.Join(r.dir, "out"))
		if err != nil {
			return err
		}
		lines := bytes.SplitAfter(out, []byte("\n"))
		if len(lines) != n+1 || len(lines[n]) != 0 {
			return fmt.Errorf("%d messages, want %d", len(lines)-1, n)
		}
		all = nil
		for _, line := range lines[:n] {
			var m message
			if err := json.Unmarshal(line, &m); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			all = append(all, m)
		}
		return nil
	})
	return all
}

func TestRsyslog(t *testing.T) {
	for _, tc := range []struct {
		name string
		url  func(r *rsyslog) string
		make func(*url.URL, sink.Host) (ship.Sink, error)
	}{
		{"syslog over TCP", func(r *rsyslog) string { return fmt.Sprintf("syslog+tcp://127.0.0.1:%d", r.tcp) }, syslog.New},
		{"RELP", func(r *rsyslog) string { return fmt.Sprintf("relp://127.0.0.1:%d?facility=local1", r.relp) }, relp.New},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := startRsyslog(t)
			u, err := url.Parse(tc.url(r))
			if err != nil {
				t.Fatal(err)
			}
			sink, err := tc.make(u, sink.Host{Resolver: net.DefaultResolver})
			if err != nil {
				t.Fatal(err)
			}
			send(t, sink)
			pri := map[string][2]string{"syslog+tcp": {"30", "27"}, "relp": {"142", "139"}}[u.Scheme]
			check(t, r.messages(t, batches*records), pri)
		})
	}
}

const batches, records = 20, 500

func send(t *testing.T, sink ship.Sink) {
	t.Helper()
	var conn ship.Conn
	eventually(t, func() (err error) {
		conn, err = sink.Dial(t.Context())
		return err
	})
	tmpl := sink.Prepare(&ship.Meta{
		Stream: "s1", ContainerID: strings.Repeat("ab", 32), ContainerName: "web", Host: "node-1", Tag: "web/1",
		Attrs: []ship.Attr{{Key: "team", Value: `a"b]c\d ü`}},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		for i := range batches {
			if err := conn.Send(ctx, batch(conn, tmpl, i)); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	}()
	for acked := uint64(0); acked < batches; {
		var err error
		if acked, err = conn.Wait(ctx, acked); err != nil {
			t.Fatalf("acked %d, %v", acked, err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func batch(conn ship.Conn, tmpl ship.Template, i int) (dst []byte) {
	for n := i * records; n < (i+1)*records; n++ {
		dst = conn.Append(dst, tmpl, &ship.Record{
			Offset: uint64(n), Time: 1_700_000_000_123_456_789, Stderr: n%2 == 1, Cut: n == 7, Line: []byte(line(n)),
		})
	}
	return dst
}

// line has a few that are awkward: empty, with line feeds, long. None ends in a
// line feed, which rsyslogd cuts off.
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

func check(t *testing.T, got []message, pri [2]string) {
	t.Helper()
	for n, m := range got {
		source, cut := "stdout", ""
		if n%2 == 1 {
			source = "stderr"
		}
		if n == 7 {
			cut = ` cut="true"`
		}
		want := message{
			Pri: pri[n%2], Time: "2023-11-14T22:13:20.123456Z", Host: "node-1", App: "web/1", Procid: "abababababab", Msg: line(n),
			SD: fmt.Sprintf(`[dockline@32473 id="s1-%016x" container_id="%s" container_name="web" source="%s" team="a\"b\]c\\d ü"%s]`,
				n, strings.Repeat("ab", 32), source, cut),
		}
		if m != want {
			t.Fatalf("record %d:\n got %.600q\nwant %.600q", n, m, want)
		}
	}
}
