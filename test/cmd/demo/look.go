package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/host"
)

// inside is the plugin of the docker command, as an operator uses it. It need not
// be installed for that.
func inside() (string, error) {
	top, err := harness.ModuleDir()
	return filepath.Join(top, "build/docker-dockline"), err
}

// lookAtLogs asks the log plugin what it is doing.
func (d *demo) lookAtLogs(ctx context.Context) error {
	step("a look inside, with docker dockline")
	binary, err := inside()
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"log", "status"}, {"log", "where", containers[0].name}, {"log", "explain", containers[0].name}} {
		if err := look("", exec.CommandContext(ctx, binary), args); err != nil {
			return err
		}
	}
	return nil
}

// lookAtNetworks asks the network plugin of a host.
func (s *site) lookAtNetworks(ctx context.Context, h *host.Host, from string, to address) error {
	step("a look inside %s", h.Name)
	binary, err := inside()
	if err != nil {
		return err
	}
	// The host has a /tmp of its own, in which a checkout may lie here.
	data, err := os.ReadFile(binary)
	if err == nil {
		binary = filepath.Join(h.Dir(), "docker-dockline")
		err = os.WriteFile(binary, data, 0o755)
	}
	if err != nil {
		return fmt.Errorf("put docker dockline on %s: %w", h.Name, err)
	}
	for _, args := range [][]string{{"net", "check"}, {"net", "addr", "ls"}, {"net", "trace", from, to.IPAddress}} {
		cmd := h.Command(ctx, binary)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+h.Engine.Addr)
		if err := look(h.Name, cmd, args); err != nil {
			return err
		}
	}
	return nil
}

// look runs a command of docker dockline and prints what it says. It is an error
// where that is that something is not well.
func look(where string, cmd *exec.Cmd, args []string) error {
	cmd.Args = append(append(cmd.Args, "dockline"), args...)
	out, err := cmd.CombinedOutput()
	said := bytes.ReplaceAll(bytes.TrimSpace(out), []byte("\n"), []byte("\n      ")) // in one, for others print too
	note("%s$ docker dockline %s\n      %s", where, strings.Join(args, " "), said)
	if err != nil {
		return fmt.Errorf("docker dockline %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
