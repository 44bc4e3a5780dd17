package e2e

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dockline/dockline/test/harness/tally"
)

// docker logs gives back what was written, while the container runs and after.
func TestDockerLogs(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	b.collector("c1", "json+tcp")
	b.start("logs", nil, "sh", "-c", "workload seq -n 3000 -stderr-every 3; workload long -n 3; while [ ! -e /stop ]; do sleep 0.1; done; echo the end")
	b.await("logs", 4003)
	out, _ := b.logs("logs")
	if n := bytes.Count(out, []byte("\n")); n != 3003 {
		t.Errorf("docker logs of a running container gives %d lines, not 3003", n)
	}
	if out, _ := b.logs("--tail", "1", "logs"); len(out) != 1<<20+1 {
		t.Errorf("docker logs --tail 1 gives %d bytes, not the line of 1 MiB", len(out))
	}
	follow := b.follow("logs")
	if _, err := b.engine.Run(b.ctx, "exec", "logs", "touch", "/stop"); err != nil {
		t.Fatal(err)
	}
	b.finish("logs")
	followed := <-follow
	if followed.err != nil {
		t.Errorf("docker logs -f did not end well: %v", followed.err)
	}
	wrote, err := b.engine.Tally(b.ctx, "logs")
	if err != nil {
		t.Fatal(err)
	}
	out, errs := b.logs("logs")
	b.wantTally("docker logs, stdout", out, wrote.Stdout)
	b.wantTally("docker logs, stderr", errs, wrote.Stderr)
	b.wantTally("docker logs -f, stdout", followed.out, wrote.Stdout)
	if out, _ := b.logs("--tail", "1", "logs"); string(out) != "the end\n" {
		t.Errorf("docker logs --tail 1 of a stopped container gives %q", out)
	}
	b.settle()
}

// A container that is started again goes on with the same logs.
func TestDockerLogsAfterRestart(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	b.collector("c1", "json+tcp")
	b.start("again", nil, "sh", "-c", "echo run")
	b.finish("again")
	if _, err := b.engine.Run(b.ctx, "start", "again"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine.Wait(b.ctx, "again"); err != nil {
		t.Fatal(err)
	}
	if out, _ := b.logs("again"); string(out) != "run\nrun\n" {
		t.Errorf("docker logs gives %q", out)
	}
	b.await("again", 2)
}

func (b *bench) logs(args ...string) (stdout, stderr []byte) {
	b.Helper()
	out, errs, err := b.engine.Output(b.ctx, nil, append([]string{"logs"}, args...)...)
	if err != nil {
		b.Errorf("docker logs %s: %v: %s", strings.Join(args, " "), err, errs)
	}
	return out, errs
}

type followed struct {
	out []byte
	err error
}

// follow runs docker logs -f, which has to end by itself.
func (b *bench) follow(name string) <-chan followed {
	done := make(chan followed, 1)
	go func() {
		out, _, err := b.engine.Output(b.ctx, nil, "logs", "-f", name)
		done <- followed{out, err}
	}()
	return done
}

func (b *bench) wantTally(what string, got []byte, want tally.Lines) {
	b.Helper()
	var w tally.Writer
	_, _ = w.Write(got)
	_ = w.Close()
	if w.Lines != want {
		b.Errorf("%s: %d lines of %d bytes, not the %d lines of %d bytes that were written", what, w.Count, w.Bytes, want.Count, want.Bytes)
	}
}
