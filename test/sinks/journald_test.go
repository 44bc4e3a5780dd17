package sinks

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/journald"
	harness "github.com/dockline/dockline/test/harness/journald"
)

// entries waits until the journal has n.
func entries(t *testing.T, j *harness.Server, n int) []map[string]string {
	t.Helper()
	var all []map[string]string
	eventually(t, func() (err error) {
		// A journal that is being written may read as if it were damaged.
		if all, err = j.Read(t.Context()); err == nil && len(all) < n {
			err = fmt.Errorf("%d entries, want %d", len(all), n)
		}
		return err
	})
	return all
}

// TestJournald sends to systemd's own journal, which stops in the middle and comes
// back, and reads it with journalctl.
func TestJournald(t *testing.T) {
	dir, err := os.MkdirTemp("", "j") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	j, err := harness.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := j.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := journald.New(&url.URL{Scheme: "journald", Host: "localhost"}, sink.Host{Journal: j.Dir})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	tmpl := s.Prepare(meta())
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, records)); err != nil {
		t.Fatal(err)
	}
	entries(t, j, records)
	if err := j.Stop(); err != nil {
		t.Fatal(err)
	}
	// Nobody reads: more than the queue has room for waits.
	sent := make(chan error, 1)
	go func() { sent <- conn.Send(t.Context(), batch(conn, tmpl, records, records)) }()
	select {
	case err := <-sent:
		t.Fatalf("sent to nobody: %v", err)
	case <-time.After(100 * time.Millisecond): // that it blocks can only be seen so
	}
	if err := j.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	checkContents(t, entries(t, j, 2*records))
	huge := conn.Append(nil, tmpl, &ship.Record{Offset: 2 * records, Line: []byte(strings.Repeat("0123456789abcdef", 10<<20/16))})
	if err := conn.Send(t.Context(), huge); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, j, 2*records+1)[2*records]["MESSAGE"]; len(got) != 10<<20 {
		t.Errorf("%d bytes of a large entry", len(got))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for acked := uint64(0); acked < 3; {
		if acked, err = conn.Wait(ctx, acked); err != nil {
			t.Fatal(err)
		}
	}
}

func checkContents(t *testing.T, all []map[string]string) {
	t.Helper()
	if len(all) != 2*records {
		t.Errorf("%d entries", len(all))
	}
	for n, e := range all {
		source, priority := "stdout", "6"
		if n%2 == 1 {
			source, priority = "stderr", "3"
		}
		for name, want := range map[string]string{
			"MESSAGE": line(n), "DOCKLINE_ID": fmt.Sprintf("s1-%016x", n), "DOCKLINE_SOURCE": source, "PRIORITY": priority, "CONTAINER_NAME": "web", "CONTAINER_TAG": "web-1",
			"SYSLOG_IDENTIFIER": "web-1", "CONTAINER_ID": "abababababab", "CONTAINER_ID_FULL": strings.Repeat("ab", 32), "DOCKLINE_HOST": "node-1", "TEAM": `a"b]c\d ü`,
		} {
			if e[name] != want {
				t.Fatalf("entry %d: %s is %.80q, want %.80q", n, name, e[name], want)
			}
		}
	}
}

// TestJournaldWithout: a plugin that was given no journal says what to do.
func TestJournaldWithout(t *testing.T) {
	_, err := journald.New(&url.URL{Scheme: "journald", Host: "localhost"}, sink.Host{Journal: t.TempDir()})
	var none *journald.NoSocketError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "journal.source=/run/systemd/journal") {
		t.Errorf("%v", err)
	}
}
