package journald

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// records makes a batch of lines.
func records(c ship.Conn, tmpl ship.Template, first int, lines ...string) []byte {
	var dst []byte
	for i, l := range lines {
		dst = c.Append(dst, tmpl, &ship.Record{Offset: uint64(first + i), Line: []byte(l)}) //nolint:gosec // small
	}
	return dst
}

// TestBytes is of every byte of a datagram.
func TestBytes(t *testing.T) {
	m := &ship.Meta{
		Stream: "s1", ContainerID: strings.Repeat("0123456789abcdef", 4), ContainerName: "web-1", ImageName: "shop/web:1", Host: "node-1", Tag: "web", Version: "v1",
		Workload: []ship.Attr{{Key: field.ComposeService, Value: "web"}}, Attrs: []ship.Attr{{Key: "com.example.team", Value: "a\nb"}},
	}
	r := &ship.Record{Offset: 0xbeef, Time: 1_700_000_000_000_000_001, Stamped: 1_700_000_001_000_000_000, Stderr: true, Cut: true, Level: process.Warn, Line: []byte("two\nlines")}
	want := "DOCKLINE_HOST=node-1\nCONTAINER_TAG=web\nCONTAINER_ID_FULL=" + m.ContainerID + "\nCONTAINER_NAME=web-1\nIMAGE_NAME=shop/web:1\n" +
		"DOCKLINE_VERSION=v1\nDOCKLINE_COMPOSE_SERVICE=web\nCONTAINER_ID=0123456789ab\nSYSLOG_IDENTIFIER=web\n" +
		"COM_EXAMPLE_TEAM\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\nDOCKLINE_ID=s1-000000000000beef\nDOCKLINE_SOURCE=stderr\nDOCKLINE_LEVEL=warn\n" +
		"PRIORITY=4\nSYSLOG_TIMESTAMP=2023-11-14T22:13:20.000000001Z\nDOCKLINE_OBSERVED=2023-11-14T22:13:21.000000000Z\nCONTAINER_PARTIAL_MESSAGE=true\n" +
		"MESSAGE\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n"
	if d := cmp.Diff(want, string(newTemplate(m).Append(nil, r))); d != "" {
		t.Error(d)
	}
	want = "DOCKLINE_ID=s-0000000000000000\nDOCKLINE_SOURCE=stdout\nPRIORITY=6\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00.000000000Z\nMESSAGE=\n"
	if got := string(newTemplate(&ship.Meta{Stream: "s"}).Append(nil, &ship.Record{})); !strings.HasSuffix(got, want) {
		t.Errorf("%q", got)
	}
}

// TestContents: what a line may hold arrives as it is, through the socket.
func TestContents(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	huge := strings.Repeat("0123456789abcdef", 10<<20/16)
	lines := []string{"", string(every), "\n", "\r\n", "\x00", "a\nb", huge, strings.Repeat("x", largest), strings.Repeat("y", largest-2000), "", "the end"}
	for i := range every {
		lines = append(lines, string(every[i:i+1]))
	}
	j := newJournal(t)
	j.listen()
	j.serve()
	c := j.dial("")
	tmpl := newTemplate(sinktest.Meta())
	if err := c.Send(t.Context(), records(c, tmpl, 0, lines...)); err != nil {
		t.Fatal(err)
	}
	if acked, err := sinktest.Wait(t, c, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	j.drained(len(lines))
	for i, e := range j.got() {
		if e["MESSAGE"] != lines[i] || e["DOCKLINE_ID"] != fmt.Sprintf("s1-%016x", i) || e["CONTAINER_TAG"] != "täg/web" {
			t.Fatalf("entry %d: %.300q, want %.80q", i, e, lines[i])
		}
	}
	if j.files != 2 {
		t.Errorf("%d came by file", j.files)
	}
}

// drained waits until so many entries are there.
func (j *journal) drained(n int) {
	j.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for len(j.got()) < n {
		if time.Now().After(end) {
			j.t.Fatalf("%d entries, want %d", len(j.got()), n)
		}
		time.Sleep(time.Millisecond) // the server announces nothing
	}
}

func TestFields(t *testing.T) {
	m := sinktest.Meta()
	m.Attrs = append(m.Attrs, ship.Attr{Key: "message", Value: "forged"}, ship.Attr{Key: "_pid", Value: "1"}, ship.Attr{Key: "9lives", Value: "9"}, ship.Attr{Key: "ü", Value: "u"},
		ship.Attr{Key: strings.Repeat("long.", 20), Value: "1"}, ship.Attr{Key: strings.Repeat("long.", 21), Value: "2"}, ship.Attr{Key: "container_name", Value: "forged"})
	entry, err := parse(newTemplate(m).Append(nil, &ship.Record{Line: []byte("x"), Fields: sinktest.Fields()}))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("LONG_", 12)
	for name, want := range map[string]string{
		"MESSAGE": "x", "MESSAGE_2": "forged", "PID": "1", "N_9LIVES": "9", "UNNAMED": "u", long: "1", long + "_2": "2", "CONTAINER_NAME": "web-1", "CONTAINER_NAME_2": "forged",
		"ID": "forged", "ID_2": "forged", "STATUS": "200", "STATUS_2": "again", "USER_NAME": `jo "ü"`, "USER_NAME_2": "x", "LIST": `[1,{"a":"b"}]`, "RAW": "\xff", "TEAM_X": "bad \xff utf-8",
		"DOCKLINE_IMAGE_ID": "sha256:feed", "DOCKLINE_COMMAND": "sh -c \"echo \x01\"",
	} {
		if got, there := entry[name]; got != want || !there {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestTooManyFields: journald drops entries with more than it takes.
func TestTooManyFields(t *testing.T) {
	var fields []ship.Field
	m := &ship.Meta{Stream: "s"}
	for i := range 2000 {
		fields = append(fields, ship.Field{Key: fmt.Appendf(nil, "k%d", i), Value: []byte("v")})
		if i%2 == 0 {
			m.Attrs = append(m.Attrs, ship.Attr{Key: fmt.Sprintf("a%d", i), Value: "v"})
		}
	}
	for _, meta := range []*ship.Meta{m, {Stream: "s", Attrs: m.Attrs[:10]}} {
		entry, err := parse(newTemplate(meta).Append(nil, &ship.Record{Line: []byte("x"), Fields: fields}))
		if err != nil || len(entry) < maxOthers || len(entry) > 1000 {
			t.Errorf("%d fields, %v", len(entry), err)
		}
	}
}

func TestPriority(t *testing.T) {
	for level, want := range map[process.Level]string{
		process.NoLevel: "6", process.Trace: "7", process.Debug: "7", process.Info: "6", process.Notice: "5", process.Warn: "4",
		process.Error: "3", process.Critical: "2", process.Alert: "1", process.Emergency: "0",
	} {
		if e, err := parse(newTemplate(&ship.Meta{}).Append(nil, &ship.Record{Level: level})); err != nil || e["PRIORITY"] != want {
			t.Errorf("%v: %q, %v", level, e["PRIORITY"], err)
		}
	}
	if e, err := parse(newTemplate(&ship.Meta{}).Append(nil, &ship.Record{Stderr: true})); err != nil || e["PRIORITY"] != "3" {
		t.Errorf("stderr: %q, %v", e["PRIORITY"], err)
	}
}

// TestSlow: a journal that takes its time holds us up, and loses nothing.
func TestSlow(t *testing.T) {
	j := newJournal(t)
	j.before = func() { time.Sleep(time.Millisecond) } // this is what is slow about it
	j.listen()
	j.serve()
	c, tmpl := j.dial("?timeout=1s"), newTemplate(sinktest.Meta())
	const batches, n = 4, 100
	go func() {
		for b := range batches {
			lines := make([]string, n)
			for i := range lines {
				lines[i] = strings.Repeat(fmt.Sprint(b*n+i, " "), 1+i*50)
			}
			if err := c.Send(t.Context(), records(c, tmpl, b*n, lines...)); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	}()
	if acked, err := sinktest.Wait(t, c, batches); acked != batches || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	j.drained(batches * n)
	for i, e := range j.got() {
		if e["DOCKLINE_ID"] != fmt.Sprintf("s1-%016x", i) {
			t.Fatalf("entry %d is %s", i, e["DOCKLINE_ID"])
		}
	}
}

// fill is more than any queue of the kernel's holds (net.unix.max_dgram_qlen).
func fill(c ship.Conn, tmpl ship.Template, size int) []byte {
	lines := make([]string, 600)
	for i := range lines {
		lines[i] = strings.Repeat("x", size)
	}
	return records(c, tmpl, 0, lines...)
}

// TestSilent: one that takes nothing for as long as the timeout is given up.
func TestSilent(t *testing.T) {
	for name, size := range map[string]int{"datagrams": 100, "files": largest} {
		j := newJournal(t)
		j.listen()
		c, tmpl := j.dial("?timeout=200ms"), newTemplate(sinktest.Meta())
		sent := make(chan error, 1)
		go func() { sent <- c.Send(t.Context(), fill(c, tmpl, size)) }()
		acked, err := sinktest.Wait(t, c, 1)
		if acked != 0 || err == nil || !strings.Contains(err.Error(), "nothing for 200ms") {
			t.Errorf("%s: acked %d, %v", name, acked, err)
		}
		_ = c.Close()
		if err := <-sent; err == nil {
			t.Errorf("%s: sent", name)
		}
	}
}

// TestRestart: what a journald that is gone has not taken is an error, and one
// that is there again is found.
func TestRestart(t *testing.T) {
	j := newJournal(t)
	j.listen()
	j.serve()
	s := j.sink("")
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tmpl := newTemplate(sinktest.Meta())
	if err := c.Send(t.Context(), records(c, tmpl, 0, "a")); err != nil {
		t.Fatal(err)
	}
	j.drained(1)
	j.stop()
	if err := c.Send(t.Context(), records(c, tmpl, 1, "b")); err == nil {
		t.Error("sent to nobody")
	}
	if acked, err := sinktest.Wait(t, c, 2); acked != 1 || err == nil {
		t.Errorf("acked %d, %v", acked, err)
	}
	_ = c.Close()
	var none *NoSocketError
	if _, err := s.Dial(t.Context()); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(j.dir, socketName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dial(t.Context()); err == nil {
		t.Error("connected to a file")
	}
	_ = os.Remove(filepath.Join(j.dir, socketName))
	j.listen()
	j.serve()
	again := j.dial("")
	if err := again.Send(t.Context(), records(again, tmpl, 1, "b")); err != nil {
		t.Fatal(err)
	}
	j.drained(2)
}

func TestContext(t *testing.T) {
	j := newJournal(t)
	j.listen()
	c, tmpl := j.dial(""), newTemplate(sinktest.Meta())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Send(ctx, fill(c, tmpl, 100)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if acked, err := sinktest.Wait(t, c, 1); acked != 0 || err == nil {
		t.Errorf("after a torn batch: acked %d, %v", acked, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.sink("").Dial(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestClose(t *testing.T) {
	j := newJournal(t)
	j.listen()
	c, tmpl := j.dial(""), newTemplate(sinktest.Meta())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if acked, err := c.Wait(ctx, 0); acked != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acked %d, %v", acked, err)
	}
	errs := make(chan error, 2)
	go func() { errs <- c.Send(t.Context(), fill(c, tmpl, 100)) }()
	go func() { _, err := c.Wait(t.Context(), 0); errs <- err }()
	time.AfterFunc(50*time.Millisecond, func() { _ = c.Close() })
	for range 2 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, want %v", err, net.ErrClosed)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := c.Send(t.Context(), records(c, tmpl, 0, "x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
}

func TestNew(t *testing.T) {
	j := newJournal(t)
	sinktest.CheckURLs(t, func(u *url.URL, _ sink.Host) (ship.Sink, error) { return New(u, j.host()) }, []sinktest.URL{
		{URL: "journald://localhost", Err: "journal.source=/run/systemd/journal"},
		{URL: "journald://elsewhere", Err: "want journald://localhost"},
		{URL: "journald://localhost:1", Err: "want journald"},
		{URL: "journald://localhost/x", Err: "path"},
		{URL: "journald://localhost?tls-ca=x", Err: "tls-ca"},
		{URL: "journald://localhost?compress=gzip", Err: "compress"},
	})
	s := sinktest.Open(t, New, sink.Host{}, "journald://localhost") // where nobody is reached, as when a configuration is checked
	if _, err := s.Dial(t.Context()); err == nil {
		t.Error("connected to nobody")
	}
	j.listen()
	if l := j.sink("?max-line=8k").Limits(); l.RecordBytes != 8<<10 || l.BatchBytes < 1 || l.BatchRecords < 1 || l.InFlight < 1 {
		t.Errorf("%+v", l)
	}
	_ = j.socket.Close()
}

func TestAppendDoesNotAllocate(t *testing.T) {
	tmpl, buf := newTemplate(sinktest.Meta()), make([]byte, 0, 4096)
	r := ship.Record{Line: []byte("plain"), Level: process.Error, Fields: sinktest.Fields()}
	if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("line"), "key", "value", int64(1), uint64(2), true)
	f.Add([]byte("\n"), "message", "\n", int64(-1), uint64(0), false)
	f.Add([]byte("\xff"), "_9", "", int64(-1), uint64(0), false)
	f.Fuzz(func(t *testing.T, line []byte, key, value string, ns int64, offset uint64, flag bool) {
		m := &ship.Meta{Stream: "s", Host: value, Attrs: []ship.Attr{{Key: key, Value: value}}}
		fields := []ship.Field{{Key: []byte(key), Value: line}, {Key: []byte(value), Value: []byte(value), Raw: flag}}
		e, err := parse(newTemplate(m).Append(nil, &ship.Record{Time: ns, Stamped: 1, Offset: offset, Stderr: flag, Cut: flag, Line: line, Fields: fields}))
		if err != nil || e["MESSAGE"] != string(line) {
			t.Errorf("%q, %v", e, err)
		}
	})
}
