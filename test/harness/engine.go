package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
)

const (
	startTime = 3 * time.Minute
	stopTime  = 90 * time.Second // as service managers have it
)

// EngineOptions says which engine to start and how.
type EngineOptions struct {
	Host   Host     // where; nil means Local
	Binary string   // "" means dockerd
	Args   []string // more arguments, after the harness's own and so winning over them
	Env    []string // more environment
	// Own says that Host has a network and a /run of its own. The engine is then
	// as on any machine: with its usual exec root, and told to have no bridge.
	Own bool
	// Run is the folder for the engine's socket, the same on Host and here; ""
	// means one of lab.Outside.
	Run string
}

// Engine is a private engine: its state, sockets and log are its own. It touches
// no firewall, and containers run on network none. It has a bridge of its own all
// the same: an engine that is told to have none deletes docker0, which may be
// another engine's (daemon/daemon_unix.go, removeDefaultBridgeInterface).
type Engine struct {
	Docker
	Dir      string // its folder in the lab
	ExecRoot string // as Host sees it
	DataRoot string
	Log      string // the file that it logs to

	opts   EngineOptions
	bridge string
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended; guarded by being replaced only in Start
}

// StartEngine starts an engine in the lab and waits until it answers. The name
// is its folder's.
func StartEngine(ctx context.Context, l *lab.Lab, name string, opts EngineOptions) (*Engine, error) {
	if opts.Host == nil {
		opts.Host = Local{}
	}
	if opts.Binary == "" {
		opts.Binary = "dockerd"
	}
	dir := filepath.Join(l.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil && (!opts.Own || !errors.Is(err, os.ErrExist)) {
		return nil, fmt.Errorf("make the engine's folder: %w", err)
	}
	var err error
	if opts.Run == "" {
		if opts.Run, err = l.Outside(); err != nil {
			return nil, err
		}
	}
	e := &Engine{
		Docker:   Docker{Addr: "unix://" + opts.Run + "/docker.sock"},
		Dir:      dir,
		DataRoot: filepath.Join(dir, "data"),
		Log:      filepath.Join(dir, "dockerd.log"),
		opts:     opts,
	}
	if opts.Own {
		e.ExecRoot, e.bridge = "/run/docker", "none"
	} else {
		e.Host, e.ExecRoot = opts.Host, opts.Run
		if e.bridge, err = l.Bridge(opts.Run); err != nil {
			return nil, err
		}
	}
	// An empty configuration of its own keeps the machine's out.
	if err := e.Configure(map[string]any{}); err != nil {
		return nil, err
	}
	return e, e.Start(ctx)
}

// Configure writes the engine's daemon.json, which it reads when it is started next.
func (e *Engine) Configure(config map[string]any) error {
	data, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(e.Dir, "daemon.json"), data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the engine's configuration: %w", err)
	}
	return nil
}

func (e *Engine) args() []string {
	return append([]string{
		"--config-file", filepath.Join(e.Dir, "daemon.json"),
		"--data-root", e.DataRoot,
		"--exec-root", e.ExecRoot,
		"--pidfile", filepath.Join(e.Dir, "dockerd.pid"),
		"-H", e.Addr,
		"--bridge=" + e.bridge, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
	}, e.opts.Args...)
}

// starts is how often a crashing engine is started before that is an error.
const starts = 3

// errCrash is an engine that ended by a fault of its own.
var errCrash = errors.New("the engine crashed")

// Start starts the engine, which must not run, and waits until it answers. An
// engine that crashes while it starts is started again, as a system's service
// manager does: 20.10 dereferences nil when a network plugin that was enabled
// could not be restored (libnetwork, drivers/remote, getPluginClient), as it
// happens now and then after the engine was killed.
func (e *Engine) Start(ctx context.Context) error {
	for n := 1; ; n++ {
		err := e.start(ctx)
		if !errors.Is(err, errCrash) || n == starts {
			return err
		}
	}
}

func (e *Engine) start(ctx context.Context) error {
	log, err := os.OpenFile(e.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the engine's log: %w", err)
	}
	defer log.Close()
	end, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find the end of the engine's log: %w", err)
	}
	// The engine outlives ctx, which only bounds the start.
	cmd := e.opts.Host.Command(context.WithoutCancel(ctx), e.opts.Binary, e.args()...)
	cmd.Env = append(os.Environ(), e.opts.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for the test, which then stops the engine
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	e.cmd, e.exited = cmd, exited
	if err := e.await(ctx); err != nil {
		if crash := e.crash(end); crash != "" {
			return fmt.Errorf("start the engine: %w\n%s", errCrash, crash)
		}
		return fmt.Errorf("start the engine: %w\n%s", err, e.LogTail(20))
	}
	return nil
}

// crash is what the engine said of its own end after that place in its log:
// what went before it, and the first goroutine's stack. "" is no crash.
func (e *Engine) crash(after int64) string {
	data, err := os.ReadFile(e.Log)
	if err != nil || int64(len(data)) < after {
		return ""
	}
	lines := strings.Split(string(data[after:]), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return strings.Join(lines[max(0, i-20):min(len(lines), i+30)], "\n")
		}
	}
	return ""
}

// await polls: before the engine listens there is nothing to subscribe to.
func (e *Engine) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("the engine does not answer in time"))
	defer cancel()
	gone := errors.New("the engine ended")
	return proc.Await(ctx, func(ctx context.Context) error {
		select {
		case <-e.exited:
			cancel()
			return gone
		default:
		}
		_, err := e.Run(ctx, "version", "--format", "{{.Server.Version}}")
		return err
	})
}

// Version is the engine's own.
func (e *Engine) Version(ctx context.Context) (string, error) {
	return e.Run(ctx, "version", "--format", "{{.Server.Version}}")
}

// PID is the engine's process.
func (e *Engine) PID() int { return e.cmd.Process.Pid }

// Stop asks the engine to end, as a system's shutdown does, and kills it when
// it does not. An engine that does not run is no error.
func (e *Engine) Stop() error {
	if e.cmd == nil {
		return nil
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the engine: %w", err)
	}
	late := time.NewTimer(stopTime)
	defer late.Stop()
	select {
	case <-e.exited:
		return nil
	case <-late.C:
		if err := e.Kill(); err != nil {
			return err
		}
		return fmt.Errorf("stop the engine: it did not end within %v and was killed", stopTime)
	}
}

// Kill ends the engine's process, as a crash does: containers and plugins go
// on. Its containerd dies with it; the next engine takes even a dead one that
// init has not reaped yet for a living one, so Kill waits for that too.
func (e *Engine) Kill() error {
	containerd, err := e.containerd()
	if err != nil {
		return err
	}
	if err := e.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the engine: %w", err)
	}
	<-e.exited
	ctx, cancel := context.WithTimeoutCause(context.Background(), stopTime, errors.New("containerd is still there"))
	defer cancel()
	return proc.Await(ctx, func(context.Context) error {
		now, err := proc.Get(containerd.PID)
		if err == nil && now.Start == containerd.Start {
			return fmt.Errorf("kill the engine: process %d did not end with it", containerd.PID)
		}
		return nil
	})
}

// containerd is the one that the engine started.
func (e *Engine) containerd() (proc.Process, error) {
	all, err := proc.All()
	if err != nil {
		return proc.Process{}, err
	}
	for _, p := range all {
		if p.PPID == e.PID() && p.Comm == "containerd" {
			return p, nil
		}
	}
	return proc.Process{}, nil
}

// Restart stops the engine and starts it again.
func (e *Engine) Restart(ctx context.Context) error {
	if err := e.Stop(); err != nil {
		return err
	}
	return e.Start(ctx)
}

// LogTail is the end of the engine's log, for error messages.
func (e *Engine) LogTail(lines int) string {
	data, err := os.ReadFile(e.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
