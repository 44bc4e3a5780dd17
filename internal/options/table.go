package options

import "errors"

// Option is one option as its table has it: for checks, and for documentation.
type Option struct {
	Name    string // one that ends in a dot begins the names of several
	Type    string // of its value, in words
	Default string // "" for none
	Doc     string // one sentence or more, Markdown
}

// Names are those of a table's options, as CheckKeys wants them.
func Names(table []Option) []string {
	all := make([]string, len(table))
	for i, o := range table {
		all[i] = o.Name
	}
	return all
}

// Key returns the key that an error of this package is about, "" for any other error.
func Key(err error) string {
	var unknown *UnknownKeyError
	var value *ValueError
	switch {
	case errors.As(err, &unknown):
		return unknown.Key
	case errors.As(err, &value):
		return value.Key
	}
	return ""
}
