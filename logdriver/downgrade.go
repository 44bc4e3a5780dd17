package logdriver

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/spool"
)

// takeOver makes what was put aside after a downgrade part of the spool. It is
// called before anything is read from a FIFO.
func (p *Plugin) takeOver() {
	all, err := p.spool.Rescued()
	if err != nil {
		p.log.Error("what was put aside after a downgrade cannot be read", "err", err)
	}
	for _, r := range all {
		if err := p.takeOverOne(r); err != nil {
			p.log.Error("what was put aside after a downgrade stays there", "fifo", r.FIFO, "err", err)
		}
	}
	if len(all) > 0 {
		p.log.Info("took over what was put aside after a downgrade", "fifos", len(all))
	}
}

func (p *Plugin) takeOverOne(r *spool.Rescued) error {
	se := p.spool.SessionOf(r.FIFO)
	if se == nil {
		var info container.Info
		switch {
		case r.Info == nil && r.Empty(): // left by an engine that has died
			return r.Forget()
		case r.Info == nil:
			return errors.New("nobody knows which container it belongs to")
		}
		if err := json.Unmarshal(r.Info, &info); err != nil {
			return fmt.Errorf("read what it belongs to: %w", err)
		}
		pl, err := p.plan(&info, p.conf.Current(), false)
		if err != nil {
			p.log.Error("a container's options are not understood", "container", info.Name(), "err", err)
			pl.missing = []string{config.DefaultPool}
		}
		params := spool.Params{Container: info.ContainerID, Info: r.Info, KeepBytes: pl.options.KeepBytes, OnFull: p.cfg.OnFull, Sync: p.cfg.Sync}
		if p.spool.Of(info.ContainerID) == nil {
			params.Routes = pl.routes()
		}
		if err := p.policies(pl.options, &params); err != nil {
			p.log.Error("a container's options are not understood", "container", info.Name(), "err", err)
		}
		if se, _, err = p.spool.Attach(params, r.FIFO); err != nil {
			return err
		}
	}
	return se.Adopt(r)
}
