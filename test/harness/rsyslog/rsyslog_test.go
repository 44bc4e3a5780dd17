package rsyslog

import (
	"fmt"
	"net"
	"testing"

	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/lab"
)

func TestBothWaysIn(t *testing.T) {
	l, err := lab.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan collector.Record, 8)
	s, err := New(l, "rs", func(r collector.Record) { got <- r })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	msg := `<14>1 2026-11-21T03:00:00.000001Z host app 0123456789ab - [dockline@32473 id="s-00" container_name="c" source="stdout"] a line`
	open := "relp_version=0\nrelp_software=test\ncommands=syslog"
	for name, c := range map[string]struct{ addr, send string }{
		"rs-tcp":  {s.Syslog, fmt.Sprintf("%d %s", len(msg), msg)},
		"rs-relp": {s.RELP, fmt.Sprintf("1 open %d %s\n2 syslog %d %s\n3 close 0\n", len(open), open, len(msg), msg)},
	} {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(conn, c.send); err != nil {
			t.Fatal(err)
		}
		if r := <-got; r.Collector != name || string(r.Line) != "a line" {
			t.Errorf("%s: received %+v", name, r)
		}
		conn.Close()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
