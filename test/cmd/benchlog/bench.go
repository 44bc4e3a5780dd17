package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/lab"
)

const (
	ours = "dockline-log"
	null = "null"
)

// bench is what the run began and what it has measured.
type bench struct {
	config
	lab      *lab.Lab
	engine   *harness.Engine
	plugins  map[string]string // ids by name
	sinks    map[string][]*counter
	variants []variant
	results  map[string][]sample
	many     []streamSample
	latency  map[string]latency // by protocol
}

func newBench(c config) (*bench, error) {
	l, err := lab.Open(lab.Base())
	if err != nil {
		return nil, err
	}
	return &bench{config: c, lab: l, plugins: map[string]string{}, sinks: map[string][]*counter{}, results: map[string][]sample{}, latency: map[string]latency{}}, nil
}

func (b *bench) prepare(ctx context.Context) error {
	var err error
	if b.engine, err = harness.StartEngine(ctx, b.lab, "engine", harness.EngineOptions{}); err != nil {
		return err
	}
	if err := b.engine.LoadImage(ctx, b.lab.Dir); err != nil {
		return err
	}
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	nullDir, err := b.buildNull(ctx)
	if err != nil {
		return err
	}
	if err := b.install(ctx, null, nullDir); err != nil {
		return err
	}
	if err := b.install(ctx, ours, filepath.Join(top, "build/plugins", ours), "SPOOL_MAX=16GiB"); err != nil {
		return err
	}
	if err := b.startSinks(); err != nil {
		return err
	}
	b.variants = b.allVariants()
	return nil
}

const nullConfig = `{
  "description": "discards what containers write",
  "entrypoint": ["/nullplugin"],
  "interface": {"types": ["docker.logdriver/1.0"], "socket": "null.sock"},
  "network": {"type": "host"},
  "linux": {"capabilities": []},
  "propagatedMount": "/run/docker/logging"
}
`

// buildNull makes the folder of the plugin that discards.
func (b *bench) buildNull(ctx context.Context) (string, error) {
	dir := filepath.Join(b.lab.Dir, "nullplugin")
	for _, sub := range []string{"rootfs/run/docker/plugins", "rootfs/run/docker/logging"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return "", fmt.Errorf("make the null plugin: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(nullConfig), 0o644); err != nil {
		return "", fmt.Errorf("make the null plugin: %w", err)
	}
	_, err := harness.BuildProgram(ctx, filepath.Join(dir, "rootfs"), "nullplugin")
	return dir, err
}

func (b *bench) install(ctx context.Context, name, dir string, settings ...string) error {
	if err := b.engine.InstallPlugin(ctx, name, dir, settings...); err != nil {
		return err
	}
	id, err := b.engine.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", name)
	b.plugins[name] = id
	return err
}

// startSinks starts three collectors for each of our protocols, and one for
// each of the engine's drivers.
func (b *bench) startSinks() error {
	for proto, n := range map[string]int{"json+tcp": 3, "syslog+tcp": 3, "relp": 3, "tcp": 1} {
		for range n {
			c, err := startCounter(proto)
			if err != nil {
				return err
			}
			b.sinks[proto] = append(b.sinks[proto], c)
		}
	}
	return nil
}

// urls lists the collectors of a protocol.
func (b *bench) urls(proto string) string {
	var all []string
	for i, c := range b.sinks[proto] {
		all = append(all, fmt.Sprintf("%s://%s?name=c%d", proto, c.addr(), i))
	}
	return strings.Join(all, ",")
}

func (b *bench) close() error {
	var errs []error
	for _, sinks := range b.sinks {
		for _, c := range sinks {
			c.close()
		}
	}
	return errors.Join(append(errs, b.lab.Close())...)
}
