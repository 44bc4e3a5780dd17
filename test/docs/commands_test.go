package docs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli"
	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/netdriver/network"
)

// commands knows what can be typed: docker dockline, the plugins' options and
// settings, make's targets, benchmarks and programs.
type commands struct {
	cli      *cobra.Command
	settings map[string][]string // of each plugin
	makefile string
}

func newCommands(t *testing.T) *commands {
	t.Helper()
	c := &commands{cli: cli.New(cli.Env{Getenv: func(string) string { return "" }}), settings: map[string][]string{}}
	for _, plugin := range []string{"dockline-log", "dockline-net"} {
		c.settings[plugin] = options.Names(configOf(t, plugin).settings())
	}
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	c.makefile = string(makefile)
	return c
}

// config is what a plugin's config.json says of its settings.
type config struct {
	Env    []struct{ Name, Description, Value string }
	Mounts []struct{ Name, Description, Source string }
}

func configOf(t *testing.T, plugin string) (c config) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, "plugin-config", plugin, "config.json"))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c config) settings() (all []options.Option) {
	for _, e := range c.Env {
		all = append(all, options.Option{Name: e.Name, Default: e.Value, Doc: e.Description})
	}
	for _, m := range c.Mounts {
		all = append(all, options.Option{Name: m.Name + ".source", Default: m.Source, Doc: m.Description})
	}
	return all
}

// check says what is wrong with a command, as far as it is one of ours.
func (c *commands) check(args []string) error {
	if args[0] == "sudo" {
		args = args[1:]
	}
	switch {
	case len(args) < 2:
		return nil
	case args[0] == "docker" && args[1] == "dockline":
		return c.dockline(args[1:])
	case args[0] == "docker":
		return c.docker(args[1:])
	case args[0] == "make":
		return c.make(args[1:])
	case args[0] == "go":
		return gocmd(args[1:])
	}
	return nil
}

func (c *commands) dockline(args []string) error {
	cmd, rest, err := c.cli.Find(args)
	if err != nil || cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return fmt.Errorf("there is no command docker %s", strings.Join(args, " "))
	}
	cmd.InitDefaultHelpFlag()
	for _, arg := range rest {
		name, _, _ := strings.Cut(arg, "=")
		long, isLong := strings.CutPrefix(name, "--")
		if isLong && cmd.Flag(long) == nil || !isLong && len(arg) == 2 && arg[0] == '-' && cmd.Flags().ShorthandLookup(arg[1:]) == nil {
			return fmt.Errorf("%s has no option %s", cmd.CommandPath(), name)
		}
	}
	return nil
}

// docker looks at what is given to the plugins.
func (c *commands) docker(args []string) error {
	if len(args) < 2 {
		return nil
	}
	line := strings.Join(args, " ")
	ours := strings.Contains(line, "-d dockline-net")
	for i, arg := range args[:len(args)-1] {
		key, value, _ := strings.Cut(args[i+1], "=")
		switch {
		case arg == "--log-opt" && strings.Contains(line, "dockline-log"):
			_, err := container.ParseOptions(&container.Info{Config: map[string]string{key: value}})
			if errors.As(err, new(*options.UnknownKeyError)) {
				return err
			}
		case (arg == "-o" || arg == "--opt") && ours:
			_, err := network.Parse(network.Request{Options: map[string]string{key: value}})
			if errors.As(err, new(*options.UnknownKeyError)) {
				return err
			}
		}
	}
	if args[0] == "plugin" && (args[1] == "set" || args[1] == "install") {
		return c.setting(args[2:])
	}
	return nil
}

var settingOf = regexp.MustCompile(`dockline-(log|net)\b`)

func (c *commands) setting(args []string) error {
	plugin := settingOf.FindString(strings.Join(args, " "))
	for _, arg := range args {
		if key, _, is := strings.Cut(arg, "="); is && !strings.HasPrefix(arg, "-") && plugin != "" && !slices.Contains(c.settings[plugin], key) {
			return fmt.Errorf("%s has no setting %s", plugin, key)
		}
	}
	return nil
}

func (c *commands) make(args []string) error {
	for _, arg := range args {
		variable, value, is := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(arg, "-"):
		case variable == "SETTINGS":
			if err := c.settable(value); err != nil {
				return err
			}
		case is && !strings.Contains(c.makefile, variable):
			return fmt.Errorf("make knows no %s", variable)
		case !is && !strings.Contains(c.makefile, "\n"+arg+":"):
			return fmt.Errorf("make has no target %s", arg)
		}
	}
	return nil
}

func (c *commands) settable(list string) error {
	for setting := range strings.FieldsSeq(list) {
		key, _, _ := strings.Cut(setting, "=")
		if !slices.Contains(slices.Concat(c.settings["dockline-log"], c.settings["dockline-net"]), key) {
			return fmt.Errorf("no plugin has a setting %s", key)
		}
	}
	return nil
}

// gocmd looks for what a go command names: programs, tests, benchmarks.
func gocmd(args []string) error {
	var dirs []string
	wants := map[string]string{}
	for i, arg := range args {
		if i > 0 && (args[i-1] == "-bench" || args[i-1] == "-run") {
			wants[map[string]string{"-bench": "Benchmark", "-run": "Test"}[args[i-1]]] = arg
		}
		if strings.HasPrefix(arg, "./") {
			dirs = append(dirs, arg)
		}
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(top, dir, "*.go"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("there is no package %s", dir)
		}
		for kind, name := range wants {
			if _, benchmarks := wants["Benchmark"]; kind == "Test" && benchmarks {
				continue // which is how no test is run
			}
			if !declares(files, kind, strings.TrimPrefix(name, kind)) {
				return fmt.Errorf("%s has no %s%s", dir, kind, name)
			}
		}
	}
	return nil
}

func declares(files []string, kind, name string) bool {
	name, _, _ = strings.Cut(name, "/") // the rest is made as it runs
	is := regexp.MustCompile(`\nfunc ` + kind + `\w*` + strings.Trim(name, "^$") + `\w*\(`)
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err == nil && is.Match(source) {
			return true
		}
	}
	return false
}
