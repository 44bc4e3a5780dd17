package admin

import (
	"cmp"
	"fmt"

	"github.com/docker/go-units"

	"github.com/dockline/dockline/logdriver/config"
)

// spoolMoves reports whether what containers write gets to the disk.
func (p *Plugin) spoolMoves() error {
	if n := p.Spool.Health().Stuck; n > 0 {
		return fmt.Errorf("%d containers wait for the disk under the spool, which has taken nothing for more than a second; look at it, or put the spool elsewhere (spool.source)", n)
	}
	return nil
}

func (p *Plugin) ships() error {
	if p.Misset != nil {
		return p.Misset
	}
	if p.Streams.Paused.Load() {
		return fmt.Errorf("dockline-log died again and again right after its start, so that it only spools for %v; the engine's log has what came before", p.PauseFor)
	}
	return nil
}

func (p *Plugin) configured() error {
	if c := p.Config.Status(); c.Version == "" {
		return fmt.Errorf("none is known from %s: %s", c.Source, cmp.Or(c.Error, c.Refused, "it has not been read yet"))
	}
	return nil
}

func (p *Plugin) hasRoom() error {
	n := 0
	for _, st := range p.Spool.Streams() {
		if st.GivesWay() {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d containers are dropped or slowed down, for the spool has the %s that SPOOL_MAX gives it, or its disk is full, and the collectors take too little%s", n, units.BytesSize(float64(p.SpoolMax)), p.why())
	}
	return nil
}

// refuses returns what is wrong with the settings, also where containers that name
// their own collectors are taken nonetheless.
func (p *Plugin) refuses() error {
	if p.Misset != nil {
		return p.Misset
	}
	conf := p.Config.Current()
	if conf == nil {
		return nil
	}
	if def := conf.Pools[config.DefaultPool]; def != nil && def.Setting {
		if err := p.Pools.Validate(def); err != nil {
			return def.CannotBe(err)
		}
	}
	return nil
}
