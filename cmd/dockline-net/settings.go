package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/netdriver/probe"
)

// settings are what an operator sets (docker plugin set).
type settings struct {
	keep       time.Duration // see ipam.Config
	requireMAC bool          // see engine.Driver
	probe      time.Duration // how often gateways and peers are asked; 0: never
	window     admin.Settings
	recent     *pluginlog.Recent // what the plugin says; nil: nobody keeps it
}

const (
	keepDefault = 5 * time.Minute
	keepMost    = 24 * time.Hour
)

func readSettings(getenv func(string) string) (settings, error) {
	s := settings{keep: keepDefault}
	switch v := getenv("REQUIRE_MAC"); v { // first: the engine is told it whatever else is wrong
	case "", "off":
	case "on":
		s.requireMAC = true
	default:
		return s, &options.ValueError{What: "setting", Key: "REQUIRE_MAC", Value: v, Err: errors.New("neither on nor off")}
	}
	var err error
	if s.window, err = admin.ParseSettings(getenv); err != nil {
		return s, err
	}
	if v := getenv("ADDRESS_KEEP"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 || d > keepMost {
			return s, &options.ValueError{What: "setting", Key: "ADDRESS_KEEP", Value: v, Err: errors.New("not a time from 0s to 24h, such as 5m")}
		}
		s.keep = d
	}
	if v := getenv("PROBE_INTERVAL"); v != "" && v != "off" {
		d, err := time.ParseDuration(v)
		if err != nil || d < probe.MinEvery || d > probe.MaxEvery {
			return s, &options.ValueError{What: "setting", Key: "PROBE_INTERVAL", Value: v, Err: fmt.Errorf("neither off nor a time from %v to %v, such as 10s", probe.MinEvery, probe.MaxEvery)}
		}
		s.probe = d
	}
	return s, nil
}
