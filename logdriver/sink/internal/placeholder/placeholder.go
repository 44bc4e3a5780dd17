// Package placeholder expands the names that a collector's URL has for where a
// stream's records go: a topic, a subject.
package placeholder

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
)

// Nothing stands for what a stream does not have, where it was not refused when
// its container started.
const Nothing = "none"

// attr begins the placeholders for attributes: labels, environment and constants
// that were asked for.
const attr = "attr."

// Template is text and placeholders for what is known of a stream.
//
//	logs    logs.{compose_project}    {attr.team|other}.logs
//
// A placeholder is the name of a field (see field.All) or attr. and an attribute's
// key; behind | may stand what counts where the stream has no such value.
type Template []part

// part is text, or a placeholder.
type part struct {
	text        string
	name        string // of a placeholder
	other       string // what stands for a value that is not there
	alternative bool   // it was given
}

// Parse reads a template, in which all text has to pass check.
func Parse(text string, check func(string) error) (Template, error) {
	var t Template
	for rest := text; rest != ""; {
		literal, behind, open := strings.Cut(rest, "{")
		if err := check(literal); err != nil {
			return nil, err
		}
		if literal != "" {
			t = append(t, part{text: literal})
		}
		if !open {
			break
		}
		inside, after, closed := strings.Cut(behind, "}")
		if !closed {
			return nil, errors.New("a { without its }")
		}
		p, err := parsePlaceholder(inside, check)
		if err != nil {
			return nil, err
		}
		t, rest = append(t, p), after
	}
	return t, nil
}

func parsePlaceholder(inside string, check func(string) error) (part, error) {
	p := part{}
	p.name, p.other, p.alternative = strings.Cut(inside, "|")
	if err := check(p.other); err != nil {
		return p, err
	}
	if key, ok := strings.CutPrefix(p.name, attr); ok && key != "" {
		return p, nil
	}
	var names []string
	for _, f := range field.All() {
		names = append(names, f.Name)
	}
	if !slices.Contains(names, p.name) {
		return p, fmt.Errorf("{%s} stands for nothing, did you mean {%s}? For labels and variables that were asked for there is {attr.KEY}", p.name, options.Nearest(p.name, names))
	}
	return p, nil
}

// Fixed reports whether it is the same for all streams.
func (t Template) Fixed() bool {
	return !slices.ContainsFunc(t, func(p part) bool { return p.name != "" })
}

// MissingError says that a container has nothing that a placeholder stands for.
type MissingError struct{ Placeholder string }

func (e *MissingError) Error() string {
	if key, ok := strings.CutPrefix(e.Placeholder, attr); ok {
		return fmt.Sprintf("the collector's URL has {%s}, and the container has no such attribute: give it the label or variable %s and name that in labels= or env=, or say what counts instead, {%s|other}",
			e.Placeholder, key, e.Placeholder)
	}
	return fmt.Sprintf("the collector's URL has {%s}, and the container has no such field: say what counts instead, {%s|other}", e.Placeholder, e.Placeholder)
}

// Check looks whether a stream has what the placeholders stand for.
func (t Template) Check(m *ship.Meta) error {
	for _, p := range t {
		if p.name != "" && !p.alternative && value(m, p.name) == "" {
			return &MissingError{p.name}
		}
	}
	return nil
}

// Expand returns what the template is for a stream. Values are as encode returns
// them.
func (t Template) Expand(m *ship.Meta, encode func(string) string) string {
	var b strings.Builder
	for _, p := range t {
		switch v := value(m, p.name); {
		case p.name == "":
			b.WriteString(p.text)
		case v != "":
			b.WriteString(encode(v))
		case p.alternative:
			b.WriteString(p.other)
		default:
			b.WriteString(Nothing)
		}
	}
	return b.String()
}

// value returns what a placeholder stands for, "" for nothing.
func value(m *ship.Meta, name string) string {
	fields := m.Attrs
	key, isAttr := strings.CutPrefix(name, attr)
	if !isAttr {
		key, fields = name, m.Fields()
	}
	for _, f := range fields {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}
