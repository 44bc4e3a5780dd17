package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness/proc"
)

// ErrNotRunning says that a plugin has no process at the moment.
var ErrNotRunning = errors.New("the plugin has no process")

const restartTime = 2 * time.Minute

// InstallPlugin creates a plugin from a build folder under a name, applies
// settings (KEY=VALUE) and enables it.
func (d Docker) InstallPlugin(ctx context.Context, name, folder string, settings ...string) error {
	if _, err := d.Run(ctx, "plugin", "create", name, folder); err != nil {
		return err
	}
	if len(settings) > 0 {
		if _, err := d.Run(ctx, append([]string{"plugin", "set", name}, settings...)...); err != nil {
			return err
		}
	}
	_, err := d.Run(ctx, "plugin", "enable", name)
	return err
}

// UpgradePlugin replaces a plugin by one that a registry has, in use or not.
func (d Docker) UpgradePlugin(ctx context.Context, name, remote string) error {
	for _, args := range [][]string{
		{"disable", "-f", name},
		{"upgrade", "--skip-remote-check", "--grant-all-permissions", name, remote},
		{"enable", name},
	} {
		if _, err := d.Run(ctx, append([]string{"plugin"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// AnotherBuild copies a plugin's build folder and makes it another one in the
// eyes of an engine: etc/dockline-build holds what it is called.
func AnotherBuild(ctx context.Context, folder, copied, called string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", folder, copied).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the plugin (make plugins): %w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(copied, "rootfs/etc/dockline-build"), []byte(called+"\n"), 0o644); err != nil {
		return fmt.Errorf("make another plugin: %w", err)
	}
	return nil
}

// RemovePlugin disables and removes a plugin, in use or not; a missing one is no error.
func (d Docker) RemovePlugin(ctx context.Context, name string) error {
	_, _ = d.Run(ctx, "plugin", "disable", "-f", name)
	_, err := d.Run(ctx, "plugin", "rm", "-f", name)
	if err != nil && strings.Contains(err.Error(), "not found") {
		return nil
	}
	return err
}

// Plugin finds the process of a plugin by its root folder, which holds for
// every engine version. It returns ErrNotRunning where there is none, such as
// between a crash and the restart.
func (d Docker) Plugin(ctx context.Context, name string) (proc.Process, error) {
	id, err := d.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", name)
	if err != nil {
		return proc.Process{}, err
	}
	return pluginProcess(id)
}

func pluginProcess(id string) (proc.Process, error) {
	all, err := proc.All()
	if err != nil {
		return proc.Process{}, err
	}
	for _, p := range all {
		root, _, err := proc.Root(p.PID)
		// runc's own first process has the root already, but another name.
		if err == nil && strings.HasSuffix(root, "/plugins/"+id+"/rootfs") && !strings.HasPrefix(p.Comm, "runc") {
			return p, nil
		}
	}
	return proc.Process{}, ErrNotRunning
}

// KillPlugin kills a plugin's process, as a crash does, and returns when it has ended.
func (d Docker) KillPlugin(ctx context.Context, name string) (killed proc.Process, err error) {
	p, err := d.Plugin(ctx, name)
	if err != nil {
		return p, err
	}
	return p, proc.Kill(ctx, p)
}

// AwaitPlugin waits until the plugin runs as another process than old and the
// engine has dialled it, and returns that one. A plugin that dies before it was
// dialled is not restarted: the engine dials for ten seconds, then gives it up.
func (d Docker) AwaitPlugin(ctx context.Context, name string, old proc.Process) (proc.Process, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, restartTime, errors.New("the engine does not restart the plugin"))
	defer cancel()
	var now proc.Process
	err := proc.Await(ctx, func(ctx context.Context) error {
		p, err := d.Plugin(ctx, name)
		if err != nil {
			return err
		}
		if p.PID == old.PID && p.Start == old.Start {
			return fmt.Errorf("process %d is still there", p.PID)
		}
		now = p
		return d.dialled(ctx, name, p)
	})
	return now, err
}

// dialled returns nil once the engine has dialled the plugin's process: it
// writes the plugin's state down right after (plugin/manager_linux.go,
// pluginPostStart).
func (d Docker) dialled(ctx context.Context, name string, p proc.Process) error {
	id, err := d.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", name)
	if err != nil {
		return err
	}
	root, err := d.Run(ctx, "info", "--format", "{{.DockerRootDir}}")
	if err != nil {
		return err
	}
	started, err := proc.Started(p)
	if err != nil {
		return err
	}
	// The process's parent is the engine's shim, which sees the host's files.
	state := filepath.Join(fmt.Sprintf("/proc/%d/root", p.PPID), root, "plugins", id, "config.json")
	info, err := os.Stat(state)
	if err != nil {
		return fmt.Errorf("look at the plugin's state: %w", err)
	}
	if info.ModTime().Before(started) {
		return fmt.Errorf("the engine has not dialled process %d yet", p.PID)
	}
	return nil
}
