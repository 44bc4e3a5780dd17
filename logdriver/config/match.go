package config

import (
	"regexp"
	"strings"

	"github.com/dockline/dockline/logdriver/container"
)

// conditions are what a container has to be like: all of them, each by one of
// its patterns.
type conditions struct {
	name, image []*regexp.Regexp
	label, env  map[string][]*regexp.Regexp
}

func (c conditions) match(info *container.Info) bool {
	if c.name != nil && !oneMatches(c.name, info.Name()) || c.image != nil && !oneMatches(c.image, info.ContainerImageName) {
		return false
	}
	for key, patterns := range c.label {
		if v, ok := info.ContainerLabels[key]; !ok || !oneMatches(patterns, v) {
			return false
		}
	}
	for key, patterns := range c.env {
		if v, ok := info.Env(key); !ok || !oneMatches(patterns, v) {
			return false
		}
	}
	return true
}

func oneMatches(patterns []*regexp.Regexp, s string) bool {
	for _, p := range patterns {
		if p.MatchString(s) {
			return true
		}
	}
	return false
}

// compile makes a pattern of a text in which * stands for any characters, the
// slash among them, ? for any one, and all else for itself. It has to match as
// a whole.
func compile(glob string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)\A` + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(glob)) + `\z`)
}
