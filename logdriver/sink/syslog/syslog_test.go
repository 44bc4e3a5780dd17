package syslog

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for _, scheme := range []string{"syslog+tcp", "syslog+tls"} {
		t.Run(scheme, func(t *testing.T) {
			sinktest.Run(t, sinktest.Protocol{Scheme: scheme, New: New, Next: nextMessage})
		})
	}
}

// nextMessage reads one message framed by octet counting, and its MSG.
func nextMessage(br *bufio.Reader) ([]string, []byte, error) {
	var length int
	if _, err := fmt.Fscanf(br, "%d ", &length); err != nil {
		return nil, nil, err
	}
	raw := make([]byte, length)
	if _, err := io.ReadFull(br, raw); err != nil {
		return nil, nil, err
	}
	line, err := sinktest.Line(raw)
	return []string{line}, nil, err
}

func TestNew(t *testing.T) {
	for _, tc := range []struct{ url, err string }{
		{url: "syslog+tcp://host"},
		{url: "syslog+tcp://host:1/"},
		{url: "syslog+tcp://[::1]:601?facility=local7&timeout=5s"},
		{url: "syslog+tcp://host?facility=23"},
		{url: "syslog+tcp://host?facility=", err: "facility"},
		{url: "syslog+tcp://host?facility=24", err: "within 0 to 23"},
		{url: "syslog+tcp://host?facility=deamon", err: `did you mean "daemon"?`},
		{url: "syslog+tcp://host?facilty=1", err: `did you mean "facility"?`},
		{url: "syslog+tcp://host?timeout=1s&timeout=2s", err: "given 2 times"},
		{url: "syslog+tcp://host?timeout=1", err: "timeout"},
		{url: "syslog+tcp://host?timeout=1us", err: "within"},
		{url: "syslog+tcp://host?a;b", err: "semicolon"},
		{url: "syslog+tcp://:601", err: "host is missing"},
		{url: "syslog+tcp://host:0", err: "port"},
		{url: "syslog+tcp://host:65536", err: "port"},
		{url: "syslog+tcp://host/path", err: "path"},
		{url: "syslog+tcp://host#x", err: "fragment"},
		{url: "syslog+tcp://user:secret@host", err: "password"},
		{url: "syslog+tcp:host", err: "//"},
		{url: "syslog://host", err: "scheme"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(u, sinktest.Host())
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.url, err, tc.err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password", tc.url)
		}
	}
}

func TestDefaultPort(t *testing.T) {
	s, err := New(&url.URL{Scheme: "syslog+tcp", Host: "host"}, sinktest.Host())
	if err != nil || s.(*collector).Addr != "host:601" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAppendCountsOctets(t *testing.T) {
	for _, size := range []int{0, 1, 700, 800, 840, 850, 860, 870, 9_000, 100_000} {
		s := collector{}
		tmpl, r := s.Prepare(&ship.Meta{Stream: "s"}), &ship.Record{Line: []byte(strings.Repeat("y", size))}
		message := string(tmpl.Append(nil, r))
		got := string((&conn{}).Append([]byte("before"), tmpl, r))
		if want := fmt.Sprintf("before%d %s", len(message), message); got != want {
			t.Errorf("size %d: %.80q, want %.80q", size, got, want)
		}
	}
}
