package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Kind is one of dockline's plugins. It is told by the socket that its config.json
// names: the plugin itself may have any name and tag.
type Kind string

// The kinds.
const (
	Log Kind = "dockline-log"
	Net Kind = "dockline-net"
)

// Plugin is a plugin as the engine shows it.
type Plugin struct {
	ID              string
	Name            string
	Enabled         bool
	PluginReference string
	Settings        struct {
		Env    []string
		Mounts []struct{ Name, Source string }
	}
	Config struct {
		Interface struct{ Socket string }
	}
}

// NotReadyError says that a plugin is not there to be asked, and what to do.
type NotReadyError struct{ Text string }

func (e *NotReadyError) Error() string { return e.Text }

// Plugin returns the plugin of a kind. name chooses among several; "" is the one
// that is enabled.
func (c *Client) Plugin(ctx context.Context, kind Kind, name string) (Plugin, error) {
	var all []Plugin
	err := c.Get(ctx, "/plugins", &all)
	if said := new(StatusError); errors.As(err, &said) && said.Code == http.StatusNotFound {
		return Plugin{}, fmt.Errorf("what answers at %s has no plugins; it is podman, perhaps, and not docker's engine: %w", c.Addr, err)
	}
	if err != nil {
		return Plugin{}, err
	}
	var enabled, disabled []Plugin
	for _, p := range all {
		if p.Config.Interface.Socket != string(kind)+".sock" || name != "" && p.Name != name && p.Name != name+":latest" && !strings.HasPrefix(p.ID, name) {
			continue
		}
		if p.Enabled {
			enabled = append(enabled, p)
		} else {
			disabled = append(disabled, p)
		}
	}
	switch {
	case len(enabled) == 1:
		return enabled[0], nil
	case len(enabled) > 1:
		return Plugin{}, &NotReadyError{fmt.Sprintf("%d plugins are %s: %s; say which one with --plugin", len(enabled), kind, names(enabled))}
	case len(disabled) > 0:
		return disabled[0], &NotReadyError{fmt.Sprintf("%s is installed but not enabled: docker plugin enable %s", names(disabled), disabled[0].Name)}
	case name != "":
		return Plugin{}, &NotReadyError{fmt.Sprintf("no plugin %q of the engine at %s is %s: see docker plugin ls", name, c.Addr, kind)}
	}
	return Plugin{}, &NotReadyError{fmt.Sprintf("%s is not installed in the engine at %s: docker plugin install --alias %s REGISTRY/%s, or make install", kind, c.Addr, kind, kind)}
}

func names(of []Plugin) string {
	var all []string
	for _, p := range of {
		all = append(all, p.Name)
	}
	return strings.Join(all, ", ")
}

// AdminSocket returns where a plugin answers operators.
func (c *Client) AdminSocket(p Plugin) (string, error) {
	var first error
	for root := range c.execRoots() {
		path := filepath.Join(root, "plugins", p.ID, "admin.sock")
		err := CheckSocket(path)
		if err == nil {
			return path, nil
		}
		if first == nil || errors.Is(err, fs.ErrPermission) {
			first = err
		}
	}
	if errors.Is(first, fs.ErrNotExist) {
		if os.Geteuid() != 0 {
			return "", errors.New("only root reaches the plugins' sockets: run it as root, as with sudo docker dockline")
		}
		return "", fmt.Errorf("%s is enabled but its socket %w: it may have just started, its engine may be in another mount namespace (run this there), or it refuses to serve; docker plugin ls and the engine's log say more", p.Name, first)
	}
	return "", first
}

// CheckSocket says why a plugin's socket cannot be reached.
func CheckSocket(path string) error {
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("only root reaches the plugins' sockets: run it as root, as with sudo docker dockline (%w)", err)
	case err != nil:
		return fmt.Errorf("is not there: %w", err)
	}
	return nil
}

// execRoots yields where engines keep their plugins' sockets: by default, of an
// engine without root, and as the engines that run here are told to. A plugin's ID
// is in one of them only.
func (c *Client) execRoots() iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield("/run/docker") || !yield(filepath.Join(filepath.Dir(c.socket), "docker")) {
			return
		}
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
		for _, line := range lines {
			text, err := os.ReadFile(line)
			if err != nil {
				continue
			}
			if root := execRoot(strings.Split(string(text), "\x00")); root != "" && !yield(root) {
				return
			}
		}
	}
}

// execRoot is what a process is told, "" if it is no engine or told nothing.
func execRoot(args []string) string {
	if filepath.Base(args[0]) != "dockerd" {
		return ""
	}
	if root := optionOf(args, "--exec-root"); root != "" {
		return root
	}
	var config struct {
		ExecRoot string `json:"exec-root"`
	}
	_ = readJSON(cmp.Or(optionOf(args, "--config-file"), "/etc/docker/daemon.json"), &config) // there need not be one
	return config.ExecRoot
}

func optionOf(args []string, name string) string {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
		if a == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}
