package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration, and where.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`            // counted from 1; 0: the file as a whole
	Where  string `json:"where,omitempty"` // the key, such as pools.web.collectors
	Reason string `json:"reason"`          // says no secret
}

func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Where != "" {
		b.WriteString(": " + p.Where)
	}
	return b.String() + ": " + p.Reason
}

// Problems is all that is wrong with a configuration, in the order of its lines.
type Problems []Problem

func (all Problems) Error() string {
	said := make([]string, len(all))
	for i, p := range all {
		said[i] = p.Error()
	}
	return strings.Join(said, "\n")
}

// sorted orders problems by line; the same one is told once.
func (all Problems) sorted() Problems {
	slices.SortStableFunc(all, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(all)
}
