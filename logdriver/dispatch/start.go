package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// Start has a container's stream go where it is to. read begins to read its FIFO.
// Nothing here waits for a collector. A container that logs already is given to us
// again after a restart of the engine, and cannot be refused what it has.
func (d *Dispatcher) Start(file string, info *container.Info, read func(*spool.Session) error) error {
	starts := !d.spool.Live(info.ContainerID)
	conf := d.Configuration.Current()
	pl, err := d.plan(info, conf, starts)
	if err != nil {
		return err
	}
	done, err := d.open(pl, starts)
	if err != nil {
		return err
	}
	defer done()
	raw, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode what is known of the container: %w", err)
	}
	params := spool.Params{Container: info.ContainerID, Info: raw, KeepBytes: pl.Options.KeepBytes}
	if err := d.settings.policies(pl.Options, &params); err != nil {
		return err
	}
	params.OfRoutes = d.ofRoutes(conf, pl, pl.routes())
	defer d.Lock(info.ContainerID)()
	if d.spool.Of(info.ContainerID) == nil { // else it has cursors, perhaps of other pools
		params.Routes = pl.routes()
	}
	se, created, err := d.spool.Attach(params, file)
	if err != nil {
		return err
	}
	if err = d.arrange(se.Stream(), pl); err == nil {
		err = read(se)
	}
	if err != nil {
		if created {
			err = errors.Join(err, se.Detach())
		}
		return err
	}
	if d.Configuration.Current() != conf {
		d.going.look(se.Stream()) // whoever looked at all streams since may have missed it
	}
	if err := d.shipAll(se.Stream(), pl); err != nil {
		d.going.look(se.Stream()) // which says why; it is no reason not to start
	}
	return nil
}

// policies reads what a container's options, or else the plugin's settings, say
// about keeping its data.
func (s Settings) policies(o container.Options, params *spool.Params) (err error) {
	if params.OnFull, err = spool.ParseOnFull(o.OnFull, s.OnFull); err != nil {
		return &options.ValueError{What: "log-opt", Key: "on-full", Value: o.OnFull, Err: err}
	}
	if params.Sync, err = spool.ParseSync(o.Sync, s.Sync); err != nil {
		return &options.ValueError{What: "log-opt", Key: "sync", Value: o.Sync, Err: err}
	}
	return nil
}

// CheckOptions looks whether a container could have log-opts.
func CheckOptions(given map[string]string) error {
	o, err := container.ParseOptions(&container.Info{Config: given})
	if err == nil {
		err = Settings{}.policies(o, &spool.Params{})
	}
	return err
}

func (d *Dispatcher) meta(stream string, info *container.Info, o container.Options) *ship.Meta {
	return &ship.Meta{
		Stream: stream, ContainerID: info.ContainerID, ContainerName: info.Name(),
		ImageID: info.ContainerImageID, ImageName: info.ContainerImageName, Command: o.Command,
		Created: info.ContainerCreated, Host: d.settings.HostName, Tag: o.Tag, Attrs: o.Attrs,
		Engine: info.DaemonName, Version: d.settings.Version, Workload: info.Workload(), Process: o.Process,
		Key: o.HashKey, PerRecord: o.PerRecord,
	}
}

// TakeOver makes what was put aside after a downgrade part of the spool. It is
// called before anything is read from a FIFO.
func (d *Dispatcher) TakeOver() {
	all, err := d.spool.Rescued()
	if err != nil {
		d.log.Error("what was put aside after a downgrade cannot be read", "err", err)
	}
	for _, r := range all {
		if err := d.takeOverOne(r); err != nil {
			d.log.Error("what was put aside after a downgrade stays there", "fifo", r.FIFO, "err", err)
		}
	}
	if len(all) > 0 {
		d.log.Info("took over what was put aside after a downgrade", "fifos", len(all))
	}
}

func (d *Dispatcher) takeOverOne(r *spool.Rescued) error {
	se := d.spool.SessionOf(r.FIFO)
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
		pl, err := d.plan(&info, d.Configuration.Current(), false)
		if err != nil {
			d.log.Error("a container's options are not understood", "container", info.Name(), "err", err)
			pl.Missing = []string{config.DefaultPool}
		}
		params := spool.Params{Container: info.ContainerID, Info: r.Info, KeepBytes: pl.Options.KeepBytes, OnFull: d.settings.OnFull, Sync: d.settings.Sync}
		if d.spool.Of(info.ContainerID) == nil {
			params.Routes = pl.routes()
		}
		if err := d.settings.policies(pl.Options, &params); err != nil {
			d.log.Error("a container's options are not understood", "container", info.Name(), "err", err)
		}
		if se, _, err = d.spool.Attach(params, r.FIFO); err != nil {
			return err
		}
	}
	return se.Adopt(r)
}
