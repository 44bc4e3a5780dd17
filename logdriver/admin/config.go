package admin

import (
	"maps"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/reload"
)

// ShownConfig is the configuration in force, without what may be secret.
type ShownConfig struct {
	Status reload.Status        `json:"status"`
	Pools  map[string]ShownPool `json:"pools"`
	Routes int                  `json:"routes"`
}

// ShownPool is one of its pools: of options, files and secrets only the names.
type ShownPool struct {
	Collectors []string `json:"collectors"`
	Private    bool     `json:"private,omitempty"`
	OnFull     string   `json:"on_full,omitempty"`
	SplitAbove string   `json:"split_above,omitempty"`
	Options    []string `json:"options,omitempty"`
	Files      []string `json:"files,omitempty"`
	Secrets    []string `json:"secrets,omitempty"`
}

func (p *Plugin) shownConfig() ShownConfig {
	s := ShownConfig{Status: p.Config.Status(), Pools: map[string]ShownPool{}}
	conf := p.Config.Current()
	if conf == nil {
		return s
	}
	s.Routes = len(conf.Routes)
	for name, p := range conf.Pools {
		s.Pools[name] = ShownPool{
			Collectors: strings.Split(redact.List(p.List), ","), Private: p.Private, OnFull: p.OnFull, SplitAbove: p.SplitAbove,
			Options: slices.Sorted(maps.Keys(p.Options)), Files: slices.Sorted(maps.Keys(p.Files)), Secrets: slices.Sorted(maps.Keys(p.Secrets)),
		}
	}
	return s
}
