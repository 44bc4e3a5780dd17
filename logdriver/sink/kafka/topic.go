package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
)

// maxTopic bounds a topic's name (org.apache.kafka.common.internals.Topic).
const maxTopic = 249

// nothing stands for what a stream does not have, where it was not refused when
// its container started.
const nothing = "none"

// attr begins the placeholders for attributes: labels, environment and constants
// that were asked for.
const attr = "attr."

// topic says which topic a stream's records go to: text, and placeholders for what
// is known of the stream.
//
//	logs    logs.{compose_project}    {attr.team|other}.logs
//
// A placeholder is the name of a field (see field.All) or attr. and an attribute's
// key; behind | may stand what counts where the stream has no such value. What a
// topic's name cannot have (anything but letters, digits, dot, dash and underscore,
// all of ASCII) reads as underscores.
type topic []part

// part is text, or a placeholder.
type part struct {
	text        string
	name        string // of a placeholder
	other       string // what stands for a value that is not there
	alternative bool   // it was given
}

var errTopic = errors.New("name the topic, such as topic=logs or topic=logs.{compose_project|other}")

func parseTopic(text string) (topic, error) {
	if text == "" {
		return nil, errTopic
	}
	var t topic
	for rest := text; rest != ""; {
		literal, behind, open := strings.Cut(rest, "{")
		if err := checkText(literal); err != nil {
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
		p, err := parsePlaceholder(inside)
		if err != nil {
			return nil, err
		}
		t, rest = append(t, p), after
	}
	if t.fixed() && (len(text) > maxTopic || text == "." || text == "..") {
		return nil, fmt.Errorf("a topic's name has at most %d characters, and neither . nor .. is one", maxTopic)
	}
	return t, nil
}

func checkText(s string) error {
	if i := strings.IndexFunc(s, unfit); i >= 0 {
		return fmt.Errorf("a topic's name has no %q: letters, digits, dots, dashes and underscores are all that there is", s[i:i+1])
	}
	return nil
}

func parsePlaceholder(inside string) (part, error) {
	p := part{}
	p.name, p.other, p.alternative = strings.Cut(inside, "|")
	if err := checkText(p.other); err != nil {
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

// unfit reports whether a topic's name cannot have c.
func unfit(c rune) bool {
	fit := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
	return !fit
}

// fixed reports whether the topic is the same for all streams.
func (t topic) fixed() bool { return len(t) == 1 && t[0].name == "" }

// MissingError says that a container has nothing to choose its topic by.
type MissingError struct{ Placeholder string }

func (e *MissingError) Error() string {
	if key, ok := strings.CutPrefix(e.Placeholder, attr); ok {
		return fmt.Sprintf("the collector's topic has {%s}, and the container has no such attribute: give it the label or variable %s and name that in labels= or env=, or say what counts instead, {%s|other}",
			e.Placeholder, key, e.Placeholder)
	}
	return fmt.Sprintf("the collector's topic has {%s}, and the container has no such field: say what counts instead, {%s|other}", e.Placeholder, e.Placeholder)
}

// check looks whether a stream has what the topic is chosen by.
func (t topic) check(m *ship.Meta) error {
	for _, p := range t {
		if p.name != "" && !p.alternative && value(m, p.name) == "" {
			return &MissingError{p.name}
		}
	}
	return nil
}

// of returns the topic of a stream, always one that can be.
func (t topic) of(m *ship.Meta) string {
	var b strings.Builder
	for _, p := range t {
		switch v := value(m, p.name); {
		case p.name == "":
			b.WriteString(p.text)
		case v != "":
			b.WriteString(strings.Map(func(c rune) rune {
				if unfit(c) {
					return '_'
				}
				return c
			}, v))
		case p.alternative:
			b.WriteString(p.other)
		default:
			b.WriteString(nothing)
		}
	}
	name := b.String()
	if name == "" || name == "." || name == ".." {
		return nothing
	}
	return name[:min(len(name), maxTopic)]
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
