package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/proc"
)

// natsServer is Debian's nats-server with a stream on disk.
type natsServer struct {
	addr, dir string
	cmd       *exec.Cmd
}

func newNATS(b *bench) *natsServer {
	b.Helper()
	s := &natsServer{addr: testport.Of(b), dir: filepath.Join(shared.lab.Dir, "nats")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.kill)
	return s
}

// start runs the server, and returns when JetStream answers.
func (s *natsServer) start(b *bench) *nats.Conn {
	b.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command("/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", s.dir)
	if err := s.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var nc *nats.Conn
	err := proc.Await(b.ctx, func(context.Context) (err error) {
		nc, err = nats.Connect("nats://" + s.addr)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

func (s *natsServer) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait()
}

// stream is what the server keeps of logs.>.
func stream(b *bench, nc *nats.Conn) nats.JetStreamContext {
	b.Helper()
	js, err := nc.JetStream(nats.MaxWait(settleTime))
	if err == nil {
		_, err = js.AddStream(&nats.StreamConfig{Name: "LOGS", Subjects: []string{"logs.>"}})
	}
	if err != nil {
		b.Fatal(err)
	}
	return js
}

// A stream of JetStream whose server is killed on the way has every record once, and
// a collector of GELF has them byte for byte.
func TestNATSAndGELFReceive(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	srv := newNATS(b)
	stream(b, srv.start(b))

	b.urls = []string{"nats://" + srv.addr + "?subject=logs.{container_name}&format=line"}
	b.start("nats-seq", nil, "workload", "seq", "-n", "50000", "-rate", "25000", "-stderr-every", "10")
	time.Sleep(500 * time.Millisecond) // so that records are on their way
	srv.kill()
	nc := srv.start(b)
	b.finish("nats-seq")

	b.urls = nil
	b.collector("graylog", "gelf+tcp")
	workloads := map[string][]string{
		"binary": {"workload", "binary"},
		"trace":  {"workload", "trace", "-n", "50"},
		"blank":  {"sh", "-c", "echo; echo; echo ' '; printf '\\r\\n'; echo end"},
	}
	for name, workload := range workloads {
		b.start("gelf-"+name, nil, workload...)
	}
	for name := range workloads {
		b.finish("gelf-" + name)
	}

	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := js.Subscribe("logs.>", func(m *nats.Msg) {
		b.check.Record(collector.Record{
			Collector: "nats", ID: m.Header.Get("Nats-Msg-Id"), Container: slices.Concat(m.Header["container_name"], []string{""})[0],
			Source: slices.Concat(m.Header["source"], []string{""})[0], Line: m.Data, Received: time.Now(),
		})
		if want := "logs.nats-seq"; m.Subject != want {
			t.Errorf("subject %s, want %s", m.Subject, want)
		}
	}, nats.OrderedConsumer())
	if err != nil {
		t.Fatal(err)
	}
	rep := b.settle()
	_ = sub.Unsubscribe()
	if rep.Duplicated > 0 || rep.Reordered > 0 {
		t.Errorf("%d came twice, %d out of order", rep.Duplicated, rep.Reordered)
	}
	if got := rep.Collectors["nats"]; got != 55000 {
		t.Errorf("the stream has %d records, not 55000", got)
	}
}
