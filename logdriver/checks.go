package logdriver

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/dispatch"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/reload"
	"github.com/dockline/dockline/logdriver/resolve"
	"github.com/dockline/dockline/logdriver/spool"
)

// dispatch says what holds for containers that do not say otherwise.
func (cfg Config) dispatch() dispatch.Settings {
	return dispatch.Settings{
		State: cfg.StateDir, HostName: cfg.HostName, Version: cfg.Version,
		OnFull: cfg.OnFull, Sync: cfg.Sync, SplitAbove: cfg.SplitAbove, LeaveTime: cfg.LeaveTime,
	}
}

// reload says where the configuration comes from, and what it has to stand.
func (cfg Config) reload(host pool.Host, before func(was, next *config.Config) ([]*config.Pool, error)) reload.Settings {
	return reload.Settings{
		State: cfg.StateDir, Key: cfg.ConfigFrom, Mount: cfg.ConfigMount, MountedFrom: cfg.ConfigMountedFrom, Fallback: cfg.fallback(),
		Host:   discover.Host{Names: host.Names, Etc: host.Etc, Dir: cfg.ConfigMount},
		Checks: func(dir string) config.Checks { return configChecks(host, dir) },
		Before: before,
	}
}

// fallback is the pool that the settings name, nil if they name none.
func (cfg Config) fallback() *config.Pool {
	if cfg.Collectors == "" {
		return nil
	}
	return &config.Pool{Name: config.DefaultPool, List: cfg.Collectors, Setting: true}
}

func configChecks(host pool.Host, dir string) config.Checks {
	host.Config = dir
	return config.Checks{
		Pool:    host.Validate,
		Options: dispatch.CheckOptions,
		OnFull: func(text string) error {
			_, err := spool.ParseOnFull(text, spool.DropOldest)
			return err
		},
	}
}

// CheckConfig looks whether a configuration could be used, with the files beside
// it, and names the pools that it has. setting is what COLLECTORS is to be.
func CheckConfig(file, setting string) (names []string, warnings config.Problems, err error) {
	text, err := hostfile.Read(file, config.MaxBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration: %w", err)
	}
	nobody := slog.New(slog.DiscardHandler)
	host := pool.Host{Names: resolve.New(resolve.Host(), nobody), Log: nobody} // nobody is reached
	c, warnings, err := config.Parse(file, text, Config{Collectors: setting}.fallback(), configChecks(host, filepath.Dir(file)))
	if err != nil {
		return nil, warnings, err
	}
	return c.Names(true), warnings, nil
}
