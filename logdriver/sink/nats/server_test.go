package nats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

// server is a nats-server, Debian's, with JetStream in a folder of its own.
type server struct {
	addr string
	dir  string
	conf string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// newServer picks a port and writes a configuration; start runs it.
func newServer(t *testing.T, conf string) *server {
	t.Helper()
	return newServerAt(t, freePorts(t, 1)[0], conf)
}

func newServerAt(t *testing.T, addr, conf string) *server {
	t.Helper()
	s := &server{addr: addr, dir: t.TempDir()}
	s.conf = filepath.Join(s.dir, "conf")
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, max_file_store: 1GB }\n%s", s.addr, s.dir, conf)
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	return s
}

// freePorts returns loopback addresses that are the test's.
func freePorts(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for range n {
		addrs = append(addrs, testport.Of(t))
	}
	return addrs
}

// start runs the server, and returns when it takes connections.
func (s *server) start(t *testing.T) *server {
	t.Helper()
	cmd := exec.Command("nats-server", "-c", s.conf)
	if _, err := exec.LookPath("nats-server"); err != nil {
		cmd.Path, cmd.Err = "/usr/sbin/nats-server", nil // where only the administrator's PATH leads
	}
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.cmd, s.done = cmd, make(chan struct{})
	ready, done := make(chan struct{}), s.done
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "Server is ready") {
				close(ready)
			}
		}
		_ = cmd.Wait()
	}()
	select {
	case <-ready:
	case <-done:
		t.Fatalf("nats-server has ended: %v", cmd.ProcessState)
	case <-time.After(20 * time.Second):
		t.Fatal("nats-server is not ready in time")
	}
	return s
}

func (s *server) end(signal syscall.Signal) {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(signal)
		<-s.done
	}
}

// stream makes a stream for logs.> and returns what looks into it.
func (s *server) stream(t *testing.T, config nats.StreamConfig, options ...nats.Option) nats.JetStreamContext {
	t.Helper()
	nc, err := nats.Connect("nats://"+s.addr, append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := nc.JetStream(nats.MaxWait(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	config.Name, config.Subjects = "LOGS", []string{"logs.>"}
	if _, err := js.AddStream(&config); err != nil {
		t.Fatal(err)
	}
	return js
}

// eventually is for what servers do when they have elected a leader.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // nobody tells when they are ready
	}
}

// messages returns all that the stream has, in order.
func messages(t *testing.T, js nats.JetStreamContext) (all []*nats.Msg) {
	t.Helper()
	var info *nats.StreamInfo
	eventually(t, func() (err error) { info, err = js.StreamInfo("LOGS"); return err })
	var sub *nats.Subscription
	eventually(t, func() (err error) { sub, err = js.SubscribeSync("logs.>", nats.OrderedConsumer()); return err })
	defer func() { _ = sub.Unsubscribe() }()
	for range info.State.Msgs {
		m, err := sub.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// open returns a sink for servers.
func open(t *testing.T, query string, files map[string]string, addrs ...string) ship.Sink {
	t.Helper()
	host := sinktest.Host()
	host.Config = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(host.Config, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var urls []*url.URL
	for _, addr := range addrs {
		if !strings.Contains(addr, "://") {
			addr = "nats://" + addr
		}
		u, err := url.Parse(addr + "?subject=logs.{host}.x&format=line" + query)
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, u)
	}
	s, err := New(urls, host)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// once sends lines in one batch on a connection of their own.
func once(t *testing.T, s ship.Sink, lines ...string) (refused []ship.Refusal, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := s.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var batch []byte
	offset := uint64(0)
	for _, line := range lines {
		batch, _ = ship.AppendRecord(batch, s, conn, sinktest.Meta(), &ship.Record{Offset: offset, Line: []byte(line)})
		offset += uint64(len(line)) + 1
	}
	if err := conn.Send(ctx, batch); err != nil {
		return nil, err
	}
	_, err = conn.Wait(ctx, 0)
	return conn.(ship.Refuser).Refused(), err
}

// shipper sends numbered records as ship does: several batches at a time, and on a
// new connection everything that was not acknowledged.
type shipper struct {
	sink  ship.Sink
	acked int // batches
	dials int
}

const (
	perBatch = 50
	inFlight = 8
)

// run sends batches until so many are acknowledged. Each is told.
func (s *shipper) run(t *testing.T, batches int, told func(acked int)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for s.acked < batches {
		if err := s.connection(ctx, batches, told); err != nil && ctx.Err() != nil {
			t.Fatalf("%d batches acknowledged: %v", s.acked, err)
		}
	}
}

func (s *shipper) connection(ctx context.Context, batches int, told func(int)) error {
	conn, err := s.sink.Dial(ctx)
	if err != nil {
		time.Sleep(20 * time.Millisecond) // the pause that ship makes
		return err
	}
	defer func() { _ = conn.Close() }()
	s.dials++
	begin, tmpl := s.acked, s.sink.Prepare(sinktest.Meta())
	window := make(chan struct{}, inFlight)
	sent := make(chan error, 1)
	go func() {
		for n := begin; n < batches; n++ {
			select {
			case window <- struct{}{}:
			case <-ctx.Done():
			}
			var b []byte
			for i := n * perBatch; i < (n+1)*perBatch; i++ {
				b = conn.Append(b, tmpl, &ship.Record{Offset: uint64(i), Line: fmt.Appendf(nil, "record %d", i)})
			}
			if err := conn.Send(ctx, b); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for seen := uint64(0); s.acked < batches && err == nil; {
		var acked uint64
		acked, err = conn.Wait(ctx, seen)
		for ; seen < acked; seen++ {
			s.acked++
			<-window
		}
		told(s.acked)
	}
	_ = conn.Close()
	for err != nil { // so that who sends does not wait for room
		select {
		case <-window:
		case sendErr := <-sent:
			return errors.Join(err, sendErr)
		}
	}
	return <-sent
}

// inOrder looks whether the records are there once each, and in order.
func inOrder(t *testing.T, all []*nats.Msg, records int) {
	t.Helper()
	if len(all) != records {
		t.Errorf("%d messages, want %d", len(all), records)
	}
	for i, m := range all {
		if want := fmt.Sprintf("record %d", i); string(m.Data) != want || m.Header.Get("Nats-Msg-Id") != fmt.Sprintf("s1-%016x", i) {
			t.Fatalf("message %d is %q, %v", i, m.Data, m.Header)
		}
	}
}

// nearlyInOrder looks whether the records are there once each, and in order but for
// those that were under way at the same time.
func nearlyInOrder(t *testing.T, all []*nats.Msg, records int) {
	t.Helper()
	seen, newest := map[string]bool{}, 0
	for _, m := range all {
		var n int
		if _, err := fmt.Sscanf(string(m.Data), "record %d", &n); err != nil || seen[string(m.Data)] {
			t.Fatalf("%q again, %v", m.Data, err)
		}
		seen[string(m.Data)] = true
		if newest = max(newest, n); newest-n > inFlight*perBatch {
			t.Errorf("%d comes behind %d", n, newest)
		}
	}
	if len(seen) != records {
		t.Errorf("%d messages, want %d", len(seen), records)
	}
}
