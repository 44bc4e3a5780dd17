package collector

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/test/harness/tally"
)

func syslogMessage(id, source, line string) string {
	return `<14>1 2026-11-21T03:00:00.000001Z host app 0123456789ab - [dockline@32473 id="` + id +
		`" container_name="w\"e\]b" source="` + source + `"] ` + line
}

func TestServersReceiveWhatWasSent(t *testing.T) {
	msg := syslogMessage("s-00000000000000ff", "stderr", "a \x00\xff line ] \"")
	relpOpen := "relp_version=0\nrelp_software=test\ncommands=syslog"
	want := Record{Collector: "c1", ID: "s-00000000000000ff", Container: `w"e]b`, Source: "stderr", Line: []byte("a \x00\xff line ] \"")}
	for proto, send := range map[string]string{
		"json+tcp":   `{"id":"s-00000000000000ff","container_name":"w\"e]b","stream":"stderr","message":"?","message_base64":"YSAA/yBsaW5lIF0gIg=="}` + "\n",
		"syslog+tcp": fmt.Sprintf("%d %s", len(msg), msg),
		"relp":       fmt.Sprintf("1 open %d %s\n2 syslog %d %s\n3 close 0\n", len(relpOpen), relpOpen, len(msg), msg),
	} {
		t.Run(proto, func(t *testing.T) {
			got := make(chan Record, 1)
			s := start(t, Options{Name: "c1", Proto: proto, Each: func(r Record) { got <- r }})
			c := dial(t, s)
			if _, err := io.WriteString(c, send); err != nil {
				t.Fatal(err)
			}
			r := <-got
			if wantConn := map[string]int{"json+tcp": 1, "syslog+tcp": 1}[proto]; r.Connection != wantConn {
				t.Errorf("connection is %d, not %d", r.Connection, wantConn)
			}
			r.Received, r.Connection = time.Time{}, 0
			if diff := cmp.Diff(want, r); diff != "" {
				t.Error(diff)
			}
			if proto == "relp" {
				wantAnswers(t, c, "1 rsp 79 200 OK", "relp_version=0", "relp_software=dockline-test-collector,1.0", "commands=syslog",
					"2 rsp 6 200 OK", "3 rsp 0", "0 serverclose 0")
			}
			c.Close()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); st.Records != 1 || st.Errors != 0 {
				t.Errorf("stats are %+v", st)
			}
		})
	}
}

func TestServersRefuseWhatIsWrong(t *testing.T) {
	relp := func(frames string) string {
		return "1 open 30 relp_version=0\ncommands=syslog\n" + frames
	}
	for name, c := range map[string]struct{ proto, send string }{
		"json: not an object":         {"json+tcp", "hello\n"},
		"json: no id":                 {"json+tcp", `{"container_name":"c","stream":"stdout","message":""}` + "\n"},
		"json: no source":             {"json+tcp", `{"id":"s-0","container_name":"c","message":""}` + "\n"},
		"syslog: no count":            {"syslog+tcp", "<14>1 x"},
		"syslog: leading zero":        {"syslog+tcp", "01 x"},
		"syslog: not RFC 5424":        {"syslog+tcp", "16 <14>Jan  1 00:00"},
		"syslog: unescaped bracket":   {"syslog+tcp", `22 <14>1 - - - - - [a b="]"]`},
		"relp: no open":               {"relp", "1 syslog 1 x\n"},
		"relp: transaction left out":  {"relp", relp("3 syslog 1 x\n")},
		"relp: open twice":            {"relp", relp("2 open 0\n")},
		"relp: no end of frame":       {"relp", relp("2 syslog 1 xy")},
		"relp: unknown command":       {"relp", relp("2 stop 0\n")},
		"relp: length without data":   {"relp", relp("2 syslog 5\n")},
		"relp: message not RFC 5424":  {"relp", relp("2 syslog 5 hello\n")},
		"relp: no version is offered": {"relp", "1 open 15 commands=syslog\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{Name: "c1", Proto: c.proto})
			conn := dial(t, s)
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, conn) // until the server has given up
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); st.Errors != 1 {
				t.Errorf("the server did not mind: %+v", st)
			}
		})
	}
}

func TestPauseHoldsRecordsBack(t *testing.T) {
	got := make(chan Record, 1)
	s := start(t, Options{Name: "c1", Proto: "json+tcp", Each: func(r Record) { got <- r }})
	s.Pause()
	c := dial(t, s)
	if _, err := io.WriteString(c, `{"id":"s-0","container_name":"c","stream":"stdout","message":"m"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-got:
		t.Error("a paused server took a record")
	case <-time.After(50 * time.Millisecond): // that nothing happens can only be waited for
	}
	s.Resume()
	<-got
}

func TestResetIsSeenAtTheOtherEnd(t *testing.T) {
	got := make(chan Record, 1)
	s := start(t, Options{Name: "c1", Proto: "json+tcp", Each: func(r Record) { got <- r }})
	c := dial(t, s)
	if _, err := io.WriteString(c, `{"id":"s-0","container_name":"c","stream":"stdout","message":"m"}`+"\n{"); err != nil {
		t.Fatal(err)
	}
	<-got // it is accepted and served
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("reading after a reset gave %v", err)
	}
}

func TestCheckerFindsEveryFault(t *testing.T) {
	lines := []string{"one", "two", "three"}
	var wrote tally.Output
	for _, l := range lines {
		wrote.Stdout.Add(tally.Hash([]byte(l)), len(l))
	}
	rec := func(i int, line string) Record {
		return Record{Collector: "c1", ID: fmt.Sprintf("s-%016x", i), Container: "c", Source: "stdout", Line: []byte(line)}
	}
	one, two, three := rec(0, "one"), rec(10, "two"), rec(20, "three")
	for name, c := range map[string]struct {
		came []Record
		want Report
		says string
	}{
		"all is well": {[]Record{one, two, three}, Report{Delivered: 3}, ""},
		"lost":        {[]Record{one, three}, Report{Delivered: 2, Lost: 1}, "1 of 3 records of stdout are lost"},
		"duplicated":  {[]Record{one, two, two, three}, Report{Delivered: 3, Duplicated: 1}, ""},
		"reordered":   {[]Record{two, one, three}, Report{Delivered: 3, Reordered: 1}, "1 records came after later ones"},
		"changed":     {[]Record{one, rec(10, "twO"), three}, Report{Delivered: 3}, "stdout is not what was written"},
		"swapped":     {[]Record{one, rec(10, "three"), rec(20, "two")}, Report{Delivered: 3}, "stdout is not what was written"},
		"too many":    {[]Record{one, two, three, rec(30, "x")}, Report{Delivered: 4}, "4 records of stdout came, 3 were written"},
		"bad id":      {[]Record{one, two, three, {ID: "s"}}, Report{Delivered: 3}, "not <stream>-<offset>"},
	} {
		t.Run(name, func(t *testing.T) {
			check := NewChecker()
			check.Expect("c", wrote)
			for _, r := range c.came {
				check.Record(r)
			}
			got := check.Report()
			c.want.Expected, c.want.Collectors = 3, map[string]uint64{"c1": c.want.Delivered}
			problems := strings.Join(got.Problems, "; ")
			if !strings.Contains(problems, c.says) || (c.says == "") != (problems == "") {
				t.Errorf("problems are %q, not %q", problems, c.says)
			}
			got.Problems, got.P50, got.P99, got.Max = nil, 0, 0, 0
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckerWaits(t *testing.T) {
	check := NewChecker()
	var wrote tally.Output
	wrote.Stdout.Add(1, 1)
	check.Expect("c", wrote)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go check.Add(Sighting{Container: "c", Source: "stdout", Hash: 1, Length: 1})
	if err := check.Wait(ctx, check.Complete); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := check.Wait(ctx, func() bool { return false }); err == nil {
		t.Error("an ended context did not end the wait")
	}
}

func TestJournalKeepsSightings(t *testing.T) {
	name := t.TempDir() + "/journal"
	j, err := OpenJournal(name)
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Collector: "c1", ID: "abc-00000000000000ff", Container: "c", Source: "stderr",
		Line: []byte("seq=1 of=2 src=stderr ts=17 xx"), Received: time.Unix(0, 42)}
	if err := j.Add(r); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	want, _ := r.Sighting()
	if want.Written != 17 || want.Offset != 255 {
		t.Errorf("the sighting is %+v", want)
	}
	var got []Sighting
	f := openFile(t, name)
	n, err := ReadJournal(io.MultiReader(f, strings.NewReader("half a li")), func(s Sighting) { got = append(got, s) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Sighting{want}, got); diff != "" {
		t.Error(diff)
	}
	if st, _ := f.Stat(); n != st.Size() {
		t.Errorf("read %d bytes of %d", n, st.Size())
	}
}

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	s, err := Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	return s
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c
}

func wantAnswers(t *testing.T, r io.Reader, want ...string) {
	t.Helper()
	in := bufio.NewScanner(r)
	for _, w := range want {
		if !in.Scan() || in.Text() != w {
			t.Fatalf("the answer is %q (%v), want %q", in.Text(), in.Err(), w)
		}
	}
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
