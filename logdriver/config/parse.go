package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/container"
)

// MaxBytes bounds a configuration.
const MaxBytes = 1 << 20

// maxNodes bounds what is read of it: aliases can make little text a lot.
const maxNodes = 1 << 18

// Checks is what a configuration is checked with that others know. Errors say no secrets.
type Checks struct {
	// Pool opens what a pool says, its list and its files, as far as that can be
	// done without reaching anybody.
	Pool func(*Pool) error
	// Options reads log-opts.
	Options func(map[string]string) error
	// OnFull reads what gives way in a full spool.
	OnFull func(string) error
}

// Parse reads a configuration and checks all of it. name is what it is called in
// the Problems that an error is. fallback, if there is one, is the pool that the
// plugin's settings name; the text may have another of that name. Warnings are
// for what is most likely not meant.
func Parse(name string, text []byte, fallback *Pool, checks Checks) (c *Config, warnings Problems, err error) {
	if len(text) > MaxBytes {
		return nil, nil, Problems{{File: name, Reason: fmt.Sprintf("larger than %d bytes", MaxBytes)}}
	}
	r := &reader{file: name, checks: checks, config: &Config{Pools: map[string]*Pool{}}}
	top, err := r.document(text)
	if err != nil {
		return nil, nil, err
	}
	if r.resolve(top) == nil {
		return nil, nil, Problems{{File: name, Reason: "it is empty"}}
	}
	if fallback != nil {
		r.config.Pools[fallback.Name] = fallback
	}
	r.top(top)
	r.warn(top)
	if len(r.problems) > 0 {
		return nil, r.warnings.sorted(), r.problems.sorted()
	}
	return r.config, r.warnings.sorted(), nil
}

// reader walks through the nodes of one text.
type reader struct {
	file     string
	checks   Checks
	config   *Config
	problems Problems
	warnings Problems
	nodes    int
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s)(.*)$`)

// document returns the top of the text's only document; nil if that is empty.
func (r *reader) document(text []byte) (*yaml.Node, error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		p := Problem{File: r.file, Reason: err.Error()}
		if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Reason = "not YAML: " + m[2]
		}
		return nil, Problems{p}
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, Problems{{File: r.file, Line: second.Line, Reason: "there is more than one document"}}
	}
	return doc.Content[0], nil
}

func (r *reader) problem(n *yaml.Node, where, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Line: n.Line, Where: where, Reason: fmt.Sprintf(format, args...)})
}

// resolve follows an alias, and takes null for nothing.
func (r *reader) resolve(n *yaml.Node) *yaml.Node {
	if n == nil || n.Tag == "!!null" {
		return nil
	}
	if r.nodes++; r.nodes >= maxNodes {
		if r.nodes == maxNodes {
			r.problem(n, "", "there is too much of it")
		}
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return r.resolve(n.Alias)
	}
	return n
}

// field is what one key of a mapping means.
type field func(value *yaml.Node, where string)

// mapping reads a mapping whose keys are known, or any where other is given.
func (r *reader) mapping(n *yaml.Node, where string, known map[string]field, other func(key, value *yaml.Node, where string)) {
	if n = r.resolve(n); n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.problem(n, where, "not a mapping (key: value)")
		return
	}
	var names []string
	for name := range known {
		names = append(names, name)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(where+"."+key.Value, ".")
		switch do := known[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			r.problem(key, where, "a key is not a text")
		case seen[key.Value] > 0:
			r.problem(key, at, "there already in line %d", seen[key.Value])
		case do != nil:
			do(value, at)
		case other != nil:
			other(key, value, at)
		default:
			r.problem(key, at, "unknown key: did you mean %q?", options.Nearest(key.Value, names))
		}
		seen[key.Value] = key.Line
	}
}

func (r *reader) text(n *yaml.Node, where string) (string, bool) {
	if n = r.resolve(n); n == nil {
		return "", true
	}
	if n.Kind != yaml.ScalarNode {
		r.problem(n, where, "not a text")
		return "", false
	}
	return n.Value, true
}

func (r *reader) truth(n *yaml.Node, where string) (is bool) {
	if n = r.resolve(n); n != nil && n.Decode(&is) != nil {
		r.problem(n, where, "neither true nor false")
	}
	return is
}

// item is one text of a list, and where it stands.
type item struct {
	text string
	node *yaml.Node
}

// list reads a list of texts, or one text.
func (r *reader) list(n *yaml.Node, where string) (all []item) {
	if n = r.resolve(n); n == nil {
		return nil
	}
	content := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		content = n.Content
	}
	for _, one := range content {
		if text, ok := r.text(one, where); ok {
			all = append(all, item{text, one})
		}
	}
	return all
}

func (r *reader) texts(n *yaml.Node, where string) map[string]string {
	all := map[string]string{}
	r.mapping(n, where, nil, func(key, value *yaml.Node, at string) {
		if text, ok := r.text(value, at); ok {
			all[key.Value] = text
		}
	})
	return all
}

func (r *reader) top(n *yaml.Node) {
	var pools, routes, defaults *yaml.Node
	keep := func(to **yaml.Node) field { return func(n *yaml.Node, _ string) { *to = n } }
	r.mapping(n, "", map[string]field{"pools": keep(&pools), "routes": keep(&routes), "defaults": keep(&defaults)}, nil)
	r.mapping(pools, "pools", nil, r.pool) // before what names them
	r.defaults(defaults)
	if routes = r.resolve(routes); routes == nil {
		return
	}
	if routes.Kind != yaml.SequenceNode {
		r.problem(routes, "routes", "not a list (- match: …)")
		return
	}
	for i, one := range routes.Content {
		r.route(one, fmt.Sprintf("routes[%d]", i+1))
	}
}

func (r *reader) pool(key, n *yaml.Node, where string) {
	p := &Pool{Name: key.Value}
	var entries []item
	before := len(r.problems)
	if err := CheckName(p.Name); err != nil {
		r.problem(key, "pools", "%v", err)
	}
	r.mapping(n, where, map[string]field{
		"collectors": func(n *yaml.Node, at string) { entries = r.list(n, at) },
		"private":    func(n *yaml.Node, at string) { p.Private = r.truth(n, at) },
		"options":    func(n *yaml.Node, at string) { p.Options = r.texts(n, at) },
		"files":      func(n *yaml.Node, at string) { p.Files = r.texts(n, at) },
		"secrets":    func(n *yaml.Node, at string) { p.Secrets = r.texts(n, at) },
		"on-full": func(n *yaml.Node, at string) {
			p.OnFull, _ = r.text(n, at)
			if err := r.checks.OnFull(p.OnFull); err != nil {
				r.problem(n, at, "%q: %v", p.OnFull, err)
			}
		},
		"split-above": func(n *yaml.Node, at string) {
			p.SplitAbove, _ = r.text(n, at)
			if _, err := container.ParseRate(p.SplitAbove); err != nil {
				r.problem(n, at, "%q: %v", p.SplitAbove, err)
			}
		},
	}, nil)
	if len(entries) == 0 {
		r.problem(key, where, "it has no collectors")
	}
	if len(r.problems) == before {
		r.collectors(p, entries, key, where+".collectors")
	}
	r.config.Pools[p.Name] = p
}

// collectors checks every entry by itself, for the line, and then all.
func (r *reader) collectors(p *Pool, entries []item, key *yaml.Node, where string) {
	bad := false
	var list []string
	for _, e := range entries {
		one := *p
		one.List = e.text
		if err := r.checks.Pool(&one); err != nil {
			r.problem(e.node, where, "%v", err)
			bad = true
		}
		list = append(list, e.text)
	}
	p.List = strings.Join(list, ",")
	if bad || len(entries) == 1 {
		return
	}
	if err := r.checks.Pool(p); err != nil {
		r.problem(key, where, "%v", err)
	}
}

// poolNames reads names of pools that there are.
func (r *reader) poolNames(n *yaml.Node, where string) []string {
	names := []string{}
	if r.resolve(n) == nil {
		r.problem(n, where, "it names no pools; pools: [] keeps records on the host")
	}
	for _, i := range r.list(n, where) {
		switch {
		case r.config.Pools[i.text] == nil:
			r.problem(i.node, where, "there is no pool %q; there are %s", i.text, strings.Join(r.config.Names(true), ", "))
		case slices.Contains(names, i.text):
			r.problem(i.node, where, "pool %q is named twice", i.text)
		default:
			names = append(names, i.text)
		}
	}
	return names
}

func (r *reader) defaults(n *yaml.Node) {
	d := &r.config.Defaults
	r.mapping(n, "defaults", map[string]field{
		"pools":    func(n *yaml.Node, at string) { d.Pools = r.poolNames(n, at) },
		"log-opts": func(n *yaml.Node, at string) { d.Options = r.options(n, at) },
	}, nil)
	if d.Pools == nil && r.config.Pools[DefaultPool] != nil {
		d.Pools = []string{DefaultPool}
	}
}

// options checks log-opts together, for some mean nothing without others. What is
// wrong with one is told at its line, and the others are looked at without it.
func (r *reader) options(n *yaml.Node, where string) map[string]string {
	all, at := map[string]string{}, map[string]*yaml.Node{}
	before := len(r.problems)
	r.mapping(n, where, nil, func(key, value *yaml.Node, where string) {
		text, ok := r.text(value, where)
		if why := container.Elsewhere(key.Value); why != "" {
			r.problem(key, where, "%s", why)
		} else if ok {
			all[key.Value], at[key.Value] = text, key
		}
	})
	for {
		err := r.checks.Options(all)
		if err == nil {
			break
		}
		key := options.Key(err)
		if at[key] == nil {
			r.problem(n, where, "%v", err)
			break
		}
		r.problem(at[key], where+"."+key, "%v", err)
		delete(all, key)
		delete(at, key)
	}
	if len(r.problems) > before {
		return nil
	}
	return all
}

func (r *reader) route(n *yaml.Node, where string) {
	route := Route{Line: n.Line}
	conditions := false
	before := len(r.problems)
	r.mapping(n, where, map[string]field{
		"pools":    func(n *yaml.Node, at string) { route.Pools = r.poolNames(n, at) },
		"log-opts": func(n *yaml.Node, at string) { route.Options = r.options(n, at) },
		"match": func(n *yaml.Node, at string) {
			r.mapping(n, at, map[string]field{
				"name":  func(n *yaml.Node, at string) { route.name, conditions = r.patterns(n, at), true },
				"image": func(n *yaml.Node, at string) { route.image, conditions = r.patterns(n, at), true },
				"label": func(n *yaml.Node, at string) { route.label, conditions = r.keyed(n, at), true },
				"env":   func(n *yaml.Node, at string) { route.env, conditions = r.keyed(n, at), true },
			}, nil)
		},
	}, nil)
	if len(r.problems) == before && !conditions {
		r.problem(n, where, "it matches every container: say what is for all under defaults, or what it is to match (name, image, label, env)")
	}
	if len(r.problems) == before && route.Pools == nil {
		r.problem(n, where, "it names no pools; pools: [] keeps records on the host")
	}
	r.config.Routes = append(r.config.Routes, route)
}

func (r *reader) patterns(n *yaml.Node, where string) []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, i := range r.list(n, where) {
		all = append(all, compile(i.text))
	}
	if len(all) == 0 {
		r.problem(n, where, "it has no pattern")
	}
	return all
}

func (r *reader) keyed(n *yaml.Node, where string) map[string][]*regexp.Regexp {
	all := map[string][]*regexp.Regexp{}
	r.mapping(n, where, nil, func(key, value *yaml.Node, at string) { all[key.Value] = r.patterns(value, at) })
	if len(all) == 0 {
		r.problem(n, where, "it has no key")
	}
	return all
}

// warn tells of pools that nothing can go to.
func (r *reader) warn(top *yaml.Node) {
	used := slices.Clone(r.config.Defaults.Pools)
	for _, route := range r.config.Routes {
		used = append(used, route.Pools...)
	}
	for _, name := range r.config.Names(true) {
		if p := r.config.Pools[name]; p.Private && !slices.Contains(used, name) {
			r.warnings = append(r.warnings, Problem{File: r.file, Line: lineOf(top, "pools", name), Where: "pools." + name,
				Reason: "nothing goes to it: it is private, and neither a route nor the defaults name it"})
		}
	}
}

// lineOf returns where a key stands in nested mappings, 0 if nowhere.
func lineOf(n *yaml.Node, path ...string) int {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return 0
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == path[0] {
			if len(path) == 1 {
				return n.Content[i].Line
			}
			return lineOf(n.Content[i+1], path[1:]...)
		}
	}
	return 0
}
