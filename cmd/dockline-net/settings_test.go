package main

import (
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want settings
		says string
	}{
		"none":             {nil, settings{keep: 5 * time.Minute}, ""},
		"all":              {map[string]string{"ADDRESS_KEEP": "0s", "REQUIRE_MAC": "on"}, settings{requireMAC: true}, ""},
		"probes":           {map[string]string{"PROBE_INTERVAL": "10s"}, settings{keep: 5 * time.Minute, probe: 10 * time.Second}, ""},
		"no probes":        {map[string]string{"PROBE_INTERVAL": "off"}, settings{keep: 5 * time.Minute}, ""},
		"probes too often": {map[string]string{"PROBE_INTERVAL": "100ms"}, settings{}, "neither off nor a time from 1s to 1h0m0s, such as 10s"},
		"a time too long":  {map[string]string{"ADDRESS_KEEP": "48h"}, settings{}, "24h"},
		"MACs, not a time": {map[string]string{"ADDRESS_KEEP": "5", "REQUIRE_MAC": "on"}, settings{}, "5m"},
		"MACs, no metrics": {map[string]string{"METRICS": "all", "REQUIRE_MAC": "on"}, settings{}, "METRICS"},
		"not a time":       {map[string]string{"ADDRESS_KEEP": "5"}, settings{}, "5m"},
		"not on, nor off":  {map[string]string{"REQUIRE_MAC": "yes"}, settings{}, "neither on nor off"},
		"a time below nil": {map[string]string{"ADDRESS_KEEP": "-1s"}, settings{}, "0s"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readSettings(func(key string) string { return c.env[key] })
			if want := c.env["REQUIRE_MAC"] == "on"; got.requireMAC != want {
				t.Errorf("requireMAC is %v", got.requireMAC)
			}
			switch {
			case c.says == "" && (err != nil || got != c.want):
				t.Errorf("got %+v, %v", got, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %v", err)
			}
		})
	}
}
