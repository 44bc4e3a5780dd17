// Package config says which pools of collectors there are, and which containers'
// records go to which of them. It reads what an operator wrote, checks all of it,
// and chooses for one container. It stands beside the data path: where the text
// comes from, and what is done when it changes, others know.
package config

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/container"
)

// FileName is what the configuration is called in its directory.
const FileName = "dockline-log.yaml"

// DefaultPool is where records go that nothing else is said of.
const DefaultPool = "default"

// Config is one version of the configuration. Nothing changes it.
type Config struct {
	Version  string // of text and files: hexadecimal digits of their hash
	Pools    map[string]*Pool
	Routes   []Route
	Defaults Defaults
}

// Pool is a named set of collectors.
type Pool struct {
	Name    string `json:"name"`
	List    string `json:"list"`    // collectors and sources of them, as discover.Parse reads them
	Private bool   `json:"private"` // containers may not choose it themselves
	OnFull  string `json:"on_full"` // what gives way for what it has not got yet; empty: what the container says
	// SplitAbove is from which rate on keys are split, see container.ParseRate;
	// empty: what the container says.
	SplitAbove string `json:"split_above,omitempty"`

	// What belongs to the URL of every collector that does not say otherwise.
	Options map[string]string `json:"options,omitempty"`
	Files   map[string]string `json:"files,omitempty"`   // parameters that are paths: relative ones lie beside the configuration
	Secrets map[string]string `json:"secrets,omitempty"` // parameters whose values are in such files

	// Setting says that the pool is the plugin's setting COLLECTORS, which is
	// looked at when a container starts.
	Setting bool `json:"setting,omitempty"`
}

// Same reports whether both mean the same collectors.
func (p *Pool) Same(q *Pool) bool {
	return p.Name == q.Name && p.List == q.List && p.Setting == q.Setting &&
		maps.Equal(p.Options, q.Options) && maps.Equal(p.Files, q.Files) && maps.Equal(p.Secrets, q.Secrets)
}

// Names reports whether a file beside the configuration may be one of the pool's.
// It may say so of one that is not.
func (p *Pool) Names(file string) bool {
	said := []string{p.List}
	for _, m := range []map[string]string{p.Options, p.Files, p.Secrets} {
		said = slices.AppendSeq(said, maps.Values(m))
	}
	return slices.ContainsFunc(said, func(s string) bool {
		return strings.Contains(s, file) || strings.Contains(s, url.QueryEscape(file)) || filepath.Clean(s) == file
	})
}

// Route says where the records of some containers go.
type Route struct {
	Line    int // where it begins, for people
	Pools   []string
	Options map[string]string // log-opts of containers that do not give them
	conditions
}

// Defaults hold where nothing else is said.
type Defaults struct {
	Pools   []string
	Options map[string]string
}

// Names returns the pools' names in order: those that containers may choose, or all.
func (c *Config) Names(private bool) []string {
	var all []string
	for name, p := range c.Pools {
		if private || !p.Private {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// Choice is what the configuration says of one container.
type Choice struct {
	Pools   []string          // none: its records stay on the host
	Options map[string]string // log-opts that it does not give itself
	By      string            // what has chosen the pools, for people
}

// Choose applies the first route that matches, and the defaults. What the
// container says itself, with the log-opt pool, comes before both; what the
// route says, before the defaults.
func (c *Config) Choose(info *container.Info, chosen []string) Choice {
	choice := Choice{Pools: c.Defaults.Pools, By: "defaults", Options: map[string]string{}}
	maps.Copy(choice.Options, c.Defaults.Options)
	for i, r := range c.Routes {
		if !r.match(info) {
			continue
		}
		maps.Copy(choice.Options, r.Options)
		choice.Pools, choice.By = r.Pools, fmt.Sprintf("route %d, line %d", i+1, r.Line)
		break
	}
	if len(chosen) > 0 {
		choice.Pools, choice.By = chosen, "log-opt pool"
	}
	return choice
}

// ChoiceError says that a container asks for a pool that it cannot have.
type ChoiceError struct {
	Pool    string
	Private bool     // there is one, but not for it
	Open    []string // the pools that it could choose
}

func (e *ChoiceError) Error() string {
	what := "there is no pool %q"
	if e.Private {
		what = "pool %q is one that containers may not choose"
	}
	if len(e.Open) == 0 {
		return fmt.Sprintf(what+"; there is none that they may", e.Pool)
	}
	return fmt.Sprintf(what+"; those that they may are %s", e.Pool, strings.Join(e.Open, ", "))
}

// Check returns a *ChoiceError for the first pool that a container may not choose.
func (c *Config) Check(chosen []string) error {
	for _, name := range chosen {
		if p := c.Pools[name]; p == nil || p.Private {
			return &ChoiceError{Pool: name, Private: p != nil, Open: c.Names(false)}
		}
	}
	return nil
}

// MaxName bounds a pool's name, which is also that of cursors in the spool.
const MaxName = 40

var poolName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// CheckName says what a pool cannot be called.
func CheckName(name string) error {
	if len(name) > MaxName || !poolName.MatchString(name) {
		return fmt.Errorf("%q is no name of a pool: at most %d small letters, digits and dashes, not at its ends", name, MaxName)
	}
	return nil
}

// ParseNames reads names of pools, parted by commas.
func ParseNames(list string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if name == "" && list == "" {
			return nil, nil
		}
		if err := CheckName(name); err != nil {
			return nil, err
		}
		if slices.Contains(names, name) {
			return nil, fmt.Errorf("pool %q is named twice", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// CannotBe says who has named the pool, which cannot be opened.
func (p *Pool) CannotBe(err error) error {
	switch {
	case p.Setting:
		return &options.ValueError{What: "plugin setting", Key: "COLLECTORS", Value: redact.List(p.List), Err: err}
	case p.Name == "":
		return &options.ValueError{What: "log-opt", Key: "collectors", Value: redact.List(p.List), Err: err}
	}
	return fmt.Errorf("open pool %s: %w", p.Name, err)
}
