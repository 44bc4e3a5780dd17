package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
)

// Registry is a private image registry on a loopback port.
type Registry struct {
	Addr string // 127.0.0.1:PORT, the first part of what is pushed to it
	cmd  *exec.Cmd
	done chan struct{}
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// StartRegistry runs Debian's docker-registry in a folder of the lab.
func StartRegistry(ctx context.Context, l *lab.Lab, name string) (*Registry, error) {
	dir := filepath.Join(l.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the registry's folder: %w", err)
	}
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0"}
`, dir)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("write the registry's configuration: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("make the registry's log: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "docker-registry", "serve", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the registry: %w", err)
	}
	r := &Registry{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(r.done)
	}()
	return r, r.await(ctx, log.Name())
}

// await reads from the registry's log which port it was given.
func (r *Registry) await(ctx context.Context, log string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the registry does not listen in time"))
	defer cancel()
	return proc.Await(ctx, func(context.Context) error {
		data, err := os.ReadFile(log)
		if err != nil {
			return fmt.Errorf("read the registry's log: %w", err)
		}
		m := listening.FindSubmatch(data)
		if m == nil {
			return fmt.Errorf("start the registry: %s", bytes.TrimSpace(data))
		}
		r.Addr = string(m[1])
		return nil
	})
}

// Push makes a plugin of a build folder, leaves it in the registry, to install
// from or upgrade to, and returns its name there. The engine forgets it: it
// keeps no two plugins of the same content.
func (r *Registry) Push(ctx context.Context, d Docker, name, folder string) (remote string, err error) {
	remote = r.Addr + "/" + name
	for _, args := range [][]string{{"create", remote, folder}, {"push", remote}, {"rm", remote}} {
		if _, err := d.Run(ctx, append([]string{"plugin"}, args...)...); err != nil {
			return "", err
		}
	}
	return remote, nil
}

// Close ends the registry. Its folder goes with the lab.
func (r *Registry) Close() error {
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the registry: %w", err)
	}
	<-r.done
	return nil
}
