package container

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/process"
)

const optionWhat = "log-opt"

// Defaults: as much as the engine's local driver keeps, five files of 20 MB.
const (
	defaultMaxSize = 20 << 20
	defaultMaxFile = 5
	maxKeep        = 1 << 50
	defaultTag     = "{{.Name}}"
	maxTag         = 1024 // bytes
)

// Options is what a container's log-opts ask for.
type Options struct {
	Pool       string // names of pools
	Collectors string // list of URLs; empty for the plugin's own, or a pool
	HashKey    string // what the ranking of collectors is computed from
	PerRecord  bool   // each record has a collector of its own, by its id
	SplitAbove Rate   // from which its key is split
	OwnSplit   bool   // that is the container's word, not a default
	Tag        string // expanded, without what is to be redacted
	Command    string // as it goes with records, likewise
	Attrs      []Attr // labels, environment and constants that were asked for, sorted by key, likewise
	KeepBytes  int64  // of acknowledged data, for docker logs
	OnFull     string // what gives way in a full spool, see spool.ParseOnFull; empty for the plugin's own
	OwnOnFull  bool   // it is the container's word, not a default
	Sync       string // how often the spool is synced, see spool.ParseSync; empty for the plugin's own

	Process *process.Spec // what is done to records before they are sent
}

// ParseOptions checks and reads the log-opts of a container. Errors name key
// and value, and for an unknown key the nearest known one.
func ParseOptions(info *Info) (Options, error) {
	if err := options.CheckKeys(optionWhat, info.Config, names()); err != nil {
		return Options{}, err
	}
	given := info.given()
	o := Options{Pool: given["pool"], Collectors: given["collectors"], OnFull: given["on-full"], OwnOnFull: info.Config["on-full"] != "", OwnSplit: info.Config["split-above"] != "", Sync: given["sync"]}
	if o.Pool != "" && o.Collectors != "" {
		return Options{}, &options.ValueError{What: optionWhat, Key: "pool", Value: o.Pool, Err: errors.New("collectors is given, too: only one of the two can be")}
	}
	var err error
	if o.Process, err = process.Parse(optionWhat, given); err != nil {
		return Options{}, err
	}
	if o.Attrs, err = attributes(info, given, o.Process); err != nil {
		return Options{}, err
	}
	steps := []struct {
		key string
		do  func(value string) error
	}{
		{"tag", func(v string) (err error) {
			o.Tag, err = expandTag(info, v)
			o.Tag = o.Process.Hide("", o.Tag)
			return err
		}},
		{"hash", func(v string) (err error) {
			o.HashKey, err = hashKey(info, v, o.Tag)
			o.PerRecord = v == perRecord
			return err
		}},
		{"split-above", func(v string) (err error) { o.SplitAbove, err = ParseRate(v); return err }},
		{"max-size", func(v string) error { return o.parseSize(v) }},
		{"max-file", func(v string) error { return o.parseFiles(v) }},
	}
	for _, s := range steps {
		if err := s.do(given[s.key]); err != nil {
			return Options{}, &options.ValueError{What: optionWhat, Key: s.key, Value: given[s.key], Err: err}
		}
	}
	if o.OwnSplit && o.SplitAbove.Bytes > 0 && info.Config["hash"] == perRecord {
		return Options{}, &options.ValueError{What: optionWhat, Key: "split-above", Value: given["split-above"], Err: errors.New("means nothing with hash=record, which spreads every record already")}
	}
	o.Command = shortened(o.Process.Hide("", info.Command()), maxCommand)
	return o, nil
}

// perRecord is the hash that spreads a container's records over all collectors.
const perRecord = "record"

var errHash = errors.New("not one of container, name, image, tag, label:KEY, env:KEY, record")

// hashKey returns the value that selects the collector. A container that lacks
// the label or variable asked for is placed by its id.
func hashKey(info *Info, spec, tag string) (string, error) {
	kind, name, named := strings.Cut(spec, ":")
	if named != (kind == "label" || kind == "env") || named && name == "" {
		return "", errHash
	}
	switch kind {
	case "", "container", perRecord:
		return info.ContainerID, nil
	case "name":
		return info.Name(), nil
	case "image":
		return info.ContainerImageName, nil
	case "tag":
		return tag, nil
	case "label":
		if v, ok := info.ContainerLabels[name]; ok {
			return v, nil
		}
		return info.ContainerID, nil
	case "env":
		if v, ok := info.Env(name); ok {
			return v, nil
		}
		return info.ContainerID, nil
	}
	return "", errHash
}

// minSplit is the lowest rate at which a key may be split: below it, nothing is
// gained.
const minSplit = 1 << 10

// Rate is bytes per second, 0 for none. The zero value is one that was not given.
type Rate struct {
	Bytes int64
	Given bool
}

// Or returns the rate, or def if it was not given.
func (r Rate) Or(def int64) int64 {
	if r.Given {
		return r.Bytes
	}
	return def
}

// ParseRate reads a rate such as 1MiB/s; 0 and off are none.
func ParseRate(s string) (Rate, error) {
	switch s {
	case "":
		return Rate{}, nil
	case "0", "off":
		return Rate{Given: true}, nil
	}
	n, err := units.RAMInBytes(strings.TrimSuffix(s, "/s"))
	if err != nil {
		return Rate{}, errors.New("not off, nor a rate such as 500KiB/s or 1MiB/s")
	}
	if n < minSplit {
		return Rate{}, fmt.Errorf("less than %s/s, the lowest", units.BytesSize(minSplit))
	}
	return Rate{n, true}, nil
}

func (o *Options) parseSize(v string) error {
	o.KeepBytes = defaultMaxSize
	if v == "" {
		return nil
	}
	n, err := units.RAMInBytes(v)
	if err != nil {
		return fmt.Errorf("not a size such as 500k, 20m or 1g: %w", err)
	}
	if n < 0 {
		return errors.New("a size is not negative")
	}
	o.KeepBytes = n
	return nil
}

// parseFiles multiplies: we keep one run of bytes where the engine's drivers
// keep so many files of so much.
func (o *Options) parseFiles(v string) error {
	files := int64(defaultMaxFile)
	if v != "" {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 1 {
			return errors.New("not a whole number of at least 1")
		}
		files = n
	}
	if o.KeepBytes > maxKeep/files {
		return errors.New("times max-size is more than 1 PiB")
	}
	o.KeepBytes *= files
	return nil
}
