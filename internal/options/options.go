// Package options checks the option maps that users type (--log-opt, -o,
// --ipam-opt) against the keys that a driver knows. The engine rejects none
// of them itself, so a misspelt key would otherwise be silently without effect.
package options

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// UnknownKeyError says that an option is not known and which known one is nearest.
type UnknownKeyError struct {
	What    string // what kind of option, e.g. "log-opt"
	Key     string
	Nearest string
	Known   []string
}

func (e *UnknownKeyError) Error() string {
	if !Alike(e.Key, e.Nearest) {
		var all []string
		for _, k := range slices.Sorted(slices.Values(e.Known)) {
			all = append(all, shown(k))
		}
		return fmt.Sprintf("unknown %s %q: there are %s", e.What, e.Key, strings.Join(all, ", "))
	}
	return fmt.Sprintf("unknown %s %q: did you mean %q?", e.What, e.Key, shown(e.Nearest))
}

// Alike reports whether a key may be another one misspelt: where most of it differs,
// naming that one would mislead.
func Alike(key, other string) bool {
	return 2*distance(key, other) <= max(len(key), len(other))
}

// shown is how a known key is written for people: that of a family needs a name.
func shown(key string) string {
	if strings.HasSuffix(key, ".") {
		return key + "NAME"
	}
	return key
}

// ValueError says that an option's value cannot be used, and why.
type ValueError struct {
	What, Key, Value string
	Err              error
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("%s %s=%q: %v", e.What, e.Key, e.Value, e.Err)
}

func (e *ValueError) Unwrap() error { return e.Err }

// CheckKeys returns an *UnknownKeyError for the first (in sorted order) key of
// given that is neither in known nor begins with one of the prefixes in known,
// which are the entries that end in a dot.
func CheckKeys[V any](what string, given map[string]V, known []string) error {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !isKnown(key, known) {
			return &UnknownKeyError{What: what, Key: key, Nearest: Nearest(key, known), Known: known}
		}
	}
	return nil
}

func isKnown(key string, known []string) bool {
	for _, k := range known {
		if family := strings.HasSuffix(k, "."); !family && key == k || family && strings.HasPrefix(key, k) && len(key) > len(k) {
			return true
		}
	}
	return false
}

// Nearest returns the entry of known with the smallest edit distance to key,
// letter case and the choice between dash and underscore not counting; the
// first in order where several are equally near, "" where known is empty.
func Nearest(key string, known []string) string {
	best, at := "", -1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(key, k); at < 0 || d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is the number of letters to change. Of a family only the name counts.
func distance(key, known string) int {
	if family, is := strings.CutSuffix(known, "."); is {
		key, _, _ = strings.Cut(key, ".")
		known = family
	}
	return levenshtein.ComputeDistance(fold(key), fold(known))
}

func fold(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), "_", "-")
}
