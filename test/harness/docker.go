// Package harness starts real engines, private to a test run, with the plugins
// and images that tests need, and takes them away again. It stands outside of
// the plugins' data paths and sees them as their users do: through the docker
// command, the process table and what arrives at collectors.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Host is a machine, or something that looks like one, to run commands on.
type Host interface {
	// Command is exec.CommandContext, there.
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
}

// Local is the machine that the tests run on.
type Local struct{}

// Command implements Host.
func (Local) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// Docker is the docker command, talking to one engine.
type Docker struct {
	Host Host   // where the command runs; nil means Local
	Addr string // the engine, as in DOCKER_HOST; "" means the command's own default
}

// CommandError says which docker command ended in an error and what it printed.
type CommandError struct {
	Args   []string
	Output string
	Err    error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("docker %s: %v: %s", strings.Join(e.Args, " "), e.Err, strings.TrimSpace(e.Output))
}

func (e *CommandError) Unwrap() error { return e.Err }

// Command prepares a docker command, for callers that need its streams.
func (d Docker) Command(ctx context.Context, args ...string) *exec.Cmd {
	host := d.Host
	if host == nil {
		host = Local{}
	}
	if d.Addr != "" {
		args = append([]string{"-H", d.Addr}, args...)
	}
	cmd := host.Command(ctx, "docker", args...)
	// What may hold the command's output open for longer than it lives is not waited for.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a docker command and returns what it printed on stdout without the
// blanks around it. An error is a *CommandError with what went to stderr.
func (d Docker) Run(ctx context.Context, args ...string) (string, error) {
	return d.RunInput(ctx, nil, args...)
}

// RunInput is Run with something to read on stdin.
func (d Docker) RunInput(ctx context.Context, in io.Reader, args ...string) (string, error) {
	out, stderr, err := d.Output(ctx, in, args...)
	if err != nil {
		return "", &CommandError{Args: args, Output: string(stderr), Err: err}
	}
	return strings.TrimSpace(string(out)), nil
}

// Output runs a docker command and returns exactly what it printed.
func (d Docker) Output(ctx context.Context, in io.Reader, args ...string) (stdout, stderr []byte, err error) {
	var out, errs bytes.Buffer
	cmd := d.Command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	err = cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.Bytes(), errs.Bytes(), err
}

// Start runs a container in the background, on no network, and returns its id.
// args are docker run's: options, image, command.
func (d Docker) Start(ctx context.Context, name string, args ...string) (string, error) {
	return d.Run(ctx, append([]string{"run", "-d", "--network", "none", "--name", name}, args...)...)
}

// Wait blocks until a container has ended and returns its exit code.
func (d Docker) Wait(ctx context.Context, name string) (code string, err error) {
	return d.Run(ctx, "wait", name)
}

// Remove removes containers whether they run or not; missing ones are no error.
func (d Docker) Remove(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	_, err := d.Run(ctx, append([]string{"rm", "-f", "-v"}, names...)...)
	if err != nil && strings.Contains(err.Error(), "No such container") {
		return nil
	}
	return err
}

// ModuleDir is the top folder of the source tree, found from the working
// directory upwards.
func ModuleDir() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	mod := strings.TrimSpace(string(out))
	if err != nil || mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("find the module's folder: the working directory is in no module (%w)", err)
	}
	return strings.TrimSuffix(mod, "/go.mod"), nil
}
