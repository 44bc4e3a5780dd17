package container

import (
	"slices"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/process"
)

// Option is one log-opt.
type Option struct {
	options.Option
	Group     string // for readers
	Elsewhere string // why a configuration cannot have it; "" where it can
}

// Table lists all log-opts, in the order in which they are to be read about.
func Table() []Option {
	return slices.Concat(
		group("Where records go", destinations()),
		group("What goes with them", attachments()),
		group("What is done to them first", processing()),
		group("What is kept", keeping()),
		group("For the engine", engines()),
	)
}

func group(name string, all []Option) []Option {
	for i := range all {
		all[i].Group = name
	}
	return all
}

func names() []string {
	var all []string
	for _, o := range Table() {
		all = append(all, o.Name)
	}
	return all
}

// Elsewhere returns why a configuration cannot have a log-opt, "" if it can, or
// if there is none of that name.
func Elsewhere(name string) string {
	for _, o := range Table() {
		if o.Name == name {
			return o.Elsewhere
		}
	}
	return ""
}

func option(name, kind, def, doc string) Option {
	return Option{Option: options.Option{Name: name, Type: kind, Default: def, Doc: doc}}
}

const sayPools = "say it with pools"

func destinations() []Option {
	pool := option("pool", "list", "", "Names of [pools](configuration.md#choosing-a-pool), parted by commas: each gets every record.")
	collectors := option("collectors", "list", "the plugin's", "[Collectors](log-driver.md#collectors) for this container, instead of pools.")
	pool.Elsewhere, collectors.Elsewhere = sayPools, sayPools
	return []Option{
		pool, collectors,
		option("hash", "a key", "container", "What selects the collector: `container` (its id), `name`, `image`, `tag`, `label:KEY`, `env:KEY`. A container without that label or variable is placed by its id. `record`: each record is placed by its own id, which spreads one loud container over all collectors; order is then kept [per collector only](routing.md#each-record-by-itself)."),
		option("split-above", "rate", "the plugin's", "From which rate on, such as `1MiB/s`, the container's records (or rather those of all that share its hash key) go to several collectors, [in time slices](routing.md#heavy-keys); `off`: always to one. Not with `hash=record`."),
	}
}

func attachments() []Option {
	return []Option{
		option("tag", "template", defaultTag, "Name under which the records appear. A [template](#tags) as in the engine's own drivers."),
		option("labels", "list", "", "Labels to attach to every record, by name, parted by commas."),
		option("labels-regex", "regexp", "", "Labels to attach, by a regular expression (RE2) that matches in their names."),
		option("env", "list", "", "Environment variables to attach, by name, parted by commas. No other variable's value is ever sent, but for the names that [schedulers](#fields) set."),
		option("env-regex", "regexp", "", "Environment variables to attach, by a regular expression that matches in their names. Mind that passwords are often variables, too."),
		option(constants, "text", "", "`fields.KEY=VALUE` attaches a constant. Names have up to 64 letters, digits, `_`, `-` and dots; values up to 1 KiB, 8 KiB together. It wins over a label or variable of its name; a [field](#fields) of dockline's own cannot be set."),
	}
}

func processing() []Option {
	var all []Option
	for _, o := range process.Options() {
		all = append(all, Option{Option: options.Option(o)})
	}
	return all
}

func keeping() []Option {
	return []Option{
		option("max-size", "size", "20m", "How much acknowledged data is kept for `docker logs`, times `max-file`. `0` keeps nothing that is delivered; with collectors that keep up, what a container writes then never reaches the disk."),
		option("max-file", "number", "5", "See `max-size`."),
		option("on-full", "`drop-oldest`, `drop-newest` or `throttle`", "the pool's, the plugin's", "What gives way in a [full spool](log-driver.md#when-the-spool-is-full)."),
		option("sync", "`off` or `interval=DURATION`", "the plugin's", "`off`: a power cut takes what the kernel has not written back, half a minute's worth. `interval=1s`: at most what came within the last second. From `100ms` to `1h`."),
	}
}

// engines are what the engine carries out itself and passes along.
func engines() []Option {
	all := []Option{
		option("mode", "`blocking` or `non-blocking`", "blocking", "`non-blocking` is not needed, for containers never wait for a collector, and drops records when its buffer is full."),
		option("max-buffer-size", "size", "1m", "Of `mode=non-blocking`."),
		option("cache-disabled", "`true` or `false`", "false", "This and the others of the engine's log cache are without effect: `docker logs` reads the spool."),
		option("cache-max-size", "size", "20m", "Without effect."),
		option("cache-max-file", "number", "5", "Without effect."),
		option("cache-compress", "`true` or `false`", "true", "Without effect."),
	}
	for i := range all {
		all[i].Elsewhere = "it is for the engine, which does not read this: say it in daemon.json or with --log-opt"
	}
	return all
}
