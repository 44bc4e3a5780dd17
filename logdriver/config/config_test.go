package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/container"
)

var update = flag.Bool("update", false, "write the goldens anew")

// checks are like the plugin's, with fewer things to know.
var checks = Checks{
	Pool: func(p *Pool) error {
		seen := map[string]bool{}
		for entry := range strings.SplitSeq(p.List, ",") {
			if !strings.HasPrefix(entry, "relp://") {
				return errors.New("no sink speaks that")
			}
			if seen[entry] {
				return errors.New("a collector is listed twice")
			}
			seen[entry] = true
		}
		return nil
	},
	Options: func(given map[string]string) error {
		for key, value := range given {
			if !slices.Contains([]string{"tag", "hash", "on-full", "burst"}, key) {
				return &options.UnknownKeyError{What: "log-opt", Key: key, Nearest: "tag"}
			}
			if value == "" {
				return &options.ValueError{What: "log-opt", Key: key, Err: errors.New("it is empty")}
			}
			if key == "burst" && given["tag"] == "" {
				return &options.ValueError{What: "log-opt", Key: key, Value: value, Err: errors.New("means nothing without tag")}
			}
		}
		return nil
	},
	OnFull: func(text string) error {
		if !slices.Contains([]string{"", "drop-oldest", "throttle"}, text) {
			return errors.New("not one of drop-oldest, throttle")
		}
		return nil
	},
}

// Every file in testdata/bad is refused, for the reasons in the golden beside it.
func TestRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := Parse(filepath.Base(file), text, nil, checks)
			var problems Problems
			if c != nil || !errors.As(err, &problems) {
				t.Fatalf("got %v, %v", c, err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(golden); err != nil || got != string(want) {
				t.Errorf("got\n%s\nwant\n%s (%v)", got, want, err)
			}
			if strings.Contains(got, "s3cret") {
				t.Error("it says a secret")
			}
		})
	}
}

const good = `
pools:
  web:
    collectors:
    - relp://a:1
    - relp://b:1
    options: &slow {timeout: 30s}
  audit: {private: true, collectors: "relp://c:1", on-full: throttle, options: *slow}
  lonely: {private: yes, collectors: "relp://d:1"}
routes:
- match:
    label: {team: "pay*", tier: ["gold", "silver"]}
  pools: [web, audit]
  log-opts: {tag: paid}
- match: {image: "*/shop/*:?", name: ["web-*", "api-*"]}
  pools: audit
- match: {env: {LOGS: "off"}}
  pools: []
defaults:
  pools: [web]
  log-opts: {burst: 5, tag: t, hash: name}
`

func TestChoose(t *testing.T) {
	fallback := &Pool{Name: DefaultPool, List: "relp://x:1", Setting: true}
	c, warnings, err := Parse("f", []byte(good), fallback, checks)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || warnings[0].Line != 9 || warnings[0].Where != "pools.lonely" {
		t.Errorf("warnings: %v", warnings)
	}
	if got := c.Names(false); !slices.Equal(got, []string{"default", "web"}) {
		t.Errorf("containers may choose %v", got)
	}
	if web := c.Pools["web"]; web.List != "relp://a:1,relp://b:1" || web.Options["timeout"] != "30s" || c.Pools["audit"].Options["timeout"] != "30s" {
		t.Errorf("web is %+v", web)
	}
	for _, tc := range []struct {
		name   string
		info   container.Info
		chosen []string
		want   string // pools, tag
	}{
		{"nothing matches", container.Info{ContainerName: "/x"}, nil, "web t"},
		{"labels", container.Info{ContainerLabels: map[string]string{"team": "payments", "tier": "silver"}}, nil, "web,audit paid"},
		{"one label is missing", container.Info{ContainerLabels: map[string]string{"team": "payments"}}, nil, "web t"},
		{"a label is another", container.Info{ContainerLabels: map[string]string{"team": "xpay", "tier": "gold"}}, nil, "web t"},
		{"its own word", container.Info{ContainerLabels: map[string]string{"team": "pay", "tier": "gold"}}, []string{"default"}, "default paid"},
		{"image and name", container.Info{ContainerName: "/api-1", ContainerImageName: "registry.example/a/shop/web:3"}, nil, "audit t"},
		{"image, not name", container.Info{ContainerName: "/db", ContainerImageName: "r/shop/web:3"}, nil, "web t"},
		{"a pattern is for all of it", container.Info{ContainerName: "/api-1", ContainerImageName: "r/shop/web:33"}, nil, "web t"},
		{"a dot is a dot", container.Info{ContainerName: "/api-1", ContainerImageName: "r.shop/web:3"}, nil, "web t"},
		{"env", container.Info{ContainerEnv: []string{"LOGS=off"}}, nil, " t"},
	} {
		choice := c.Choose(&tc.info, tc.chosen)
		if got := strings.Join(choice.Pools, ",") + " " + choice.Options["tag"]; got != tc.want {
			t.Errorf("%s: %s, want %s (by %s)", tc.name, got, tc.want, choice.By)
		}
	}
}

func TestDefaultPool(t *testing.T) {
	setting := &Pool{Name: DefaultPool, Setting: true}
	for text, want := range map[string]string{
		"pools: {a: {collectors: 'relp://a:1'}}":                                       "default",
		"pools: {default: {collectors: 'relp://a:1'}}":                                 "default own",
		"{pools: {a: {collectors: 'relp://a:1'}}, defaults: {pools: []}}":              "",
		"{pools: {a: {collectors: 'relp://a:1'}}, defaults: {pools: [a]}}":             "a",
		"{pools: {a: {collectors: 'relp://a:1'}}, defaults: {log-opts: {hash: name}}}": "default",
	} {
		c, _, err := Parse("f", []byte(text), setting, checks)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(c.Defaults.Pools, ",")
		if got == DefaultPool && !c.Pools[DefaultPool].Setting {
			got += " own"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestParseNames(t *testing.T) {
	for list, want := range map[string]int{"": 0, "a": 1, " a , b-2 ": 2, "a,a": -1, "a,": -1, "A": -1, "-a": -1, "a_b": -1, strings.Repeat("x", 41): -1} {
		names, err := ParseNames(list)
		if err != nil && want >= 0 || err == nil && len(names) != want {
			t.Errorf("%q: %v, %v", list, names, err)
		}
	}
}

// Whatever is in a file, reading it ends, and in an answer or in problems.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, _, err := Parse("f", text, nil, checks)
		if (c == nil) != (err != nil) {
			t.Errorf("%v, %v", c, err)
		}
		if problems := (Problems{}); err != nil && (!errors.As(err, &problems) || len(problems) == 0) {
			t.Errorf("an error without problems: %v", err)
		}
	})
}
