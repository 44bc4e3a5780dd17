package container

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/process"
)

// Attr is one key and value to attach to every record.
type Attr = field.Attr

// Bounds of what is attached to every record, in bytes. Labels and variables that
// are too many for them are left out, for the container's user may have no say in
// what they hold; constants are refused.
const (
	maxAttrs     = 16 << 10 // keys and values together
	maxValue     = 4 << 10  // of a label or variable; what is behind is cut
	maxConstants = 8 << 10  // keys and values together
	maxConstant  = 1 << 10
	cutMark      = "…"
	leftOut      = "attrs_left_out" // attribute that says how many others were
)

// constants is the family of log-opts that are attached as they are.
const constants = "fields."

var constantName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

// attributes returns the labels, variables and constants that are asked for, of
// two with the same key the later in this order, as in the engine's own drivers,
// sorted by key and bounded, without what is to be redacted. Errors are
// *options.ValueError.
func attributes(info *Info, given map[string]string, hide *process.Spec) ([]Attr, error) {
	asked := map[string]string{}
	for _, source := range []struct {
		key string
		all map[string]string
	}{
		{"labels", info.ContainerLabels}, {"env", info.environment()},
	} {
		addNamed(asked, given[source.key], source.all)
		key := source.key + "-regex"
		if err := addMatching(asked, given[key], source.all); err != nil {
			return nil, &options.ValueError{What: optionWhat, Key: key, Value: given[key], Err: err}
		}
	}
	fixed, size, err := parseConstants(given)
	if err != nil {
		return nil, err
	}
	for i, a := range fixed {
		delete(asked, a.Key)
		fixed[i].Value = hide.Hide(a.Key, a.Value)
	}
	for key, value := range asked {
		asked[key] = hide.Hide(key, value) // before it is shortened: half a secret shows no form
	}
	all := append(fixed, bounded(asked, maxAttrs-size)...)
	slices.SortFunc(all, func(a, b Attr) int { return strings.Compare(a.Key, b.Key) })
	return all, nil
}

func (i *Info) environment() map[string]string {
	all := map[string]string{}
	for _, kv := range i.ContainerEnv {
		if k, v, ok := strings.Cut(kv, "="); ok {
			all[k] = v
		}
	}
	return all
}

func addNamed(to map[string]string, list string, from map[string]string) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if v, ok := from[name]; ok {
			to[name] = v
		}
	}
}

func addMatching(to map[string]string, pattern string, from map[string]string) error {
	if pattern == "" {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("not a regular expression: %w", err)
	}
	for k, v := range from {
		if re.MatchString(k) {
			to[k] = v
		}
	}
	return nil
}

// parseConstants returns the constants and what they take.
func parseConstants(given map[string]string) (all []Attr, size int, err error) {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		name, is := strings.CutPrefix(key, constants)
		value := given[key]
		if !is || value == "" {
			continue
		}
		size += len(name) + len(value)
		switch {
		case !constantName.MatchString(name):
			err = errors.New("its name is not 1 to 64 letters, digits, _, - and dots")
		case field.Taken(name) || name == leftOut:
			err = fmt.Errorf("%s is a field that dockline sets itself", name)
		case len(value) > maxConstant:
			err = fmt.Errorf("longer than %d bytes", maxConstant)
		case size > maxConstants:
			err = fmt.Errorf("with those before it, more than %d bytes", maxConstants)
		}
		if err != nil {
			return nil, 0, &options.ValueError{What: optionWhat, Key: key, Value: shortened(value, shownValue), Err: err}
		}
		all = append(all, Attr{Key: name, Value: value})
	}
	return all, size, nil
}

// shownValue is how much of a value an error shows.
const shownValue = 64

// bounded returns as many attributes as there is room for, those with the first
// keys, and one that says how many are left out.
func bounded(asked map[string]string, room int) []Attr {
	var all []Attr
	out := 0
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		value := shortened(asked[key], maxValue)
		if len(key)+len(value) > room {
			out++
			continue
		}
		room -= len(key) + len(value)
		all = append(all, Attr{Key: key, Value: value})
	}
	if out > 0 {
		all = append(all, Attr{Key: leftOut, Value: strconv.Itoa(out)})
	}
	return all
}

// shortened returns at most n bytes of s, with a mark where that is not all.
func shortened(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len(cutMark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + cutMark
}
