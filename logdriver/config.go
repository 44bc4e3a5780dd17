package logdriver

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/reload"
	"github.com/dockline/dockline/logdriver/spool"
)

// Config is what the plugin's settings say.
type Config struct {
	StateDir          string        // the spool lies below it, unless there is a SpoolMount
	SpoolMount        string        // a directory of the host for the spool
	SpoolMountedFrom  string        // what that is there, for people
	Collectors        string        // for containers that name none; checked when one starts
	ConfigMount       string        // a directory of the host with the configuration and what belongs to it
	ConfigMountedFrom string        // what that is there, for people
	JournalMount      string        // where the host's journal may be mounted; the empty directory otherwise
	ConfigFrom        string        // a key of Consul or etcd that holds the configuration instead; see discover.ParseDocument
	HostName          string        // goes with every record
	Version           string        // of the plugin; the same
	SpoolMax          int64         // bytes
	MinFree           int64         // bytes of the spool's disk to leave alone
	OnFull            spool.OnFull  // for containers that do not say
	Sync              time.Duration // how often what such containers write is synced; 0: never
	SplitAbove        int64         // bytes per second, for containers that do not say; 0: keys are not split
	LogLevel          slog.Level
	Etc               string // where the host's /etc is seen, for tests; "" where config.json has it mounted
	// LeaveTime is how long a pool that a stream no longer goes to may acknowledge
	// nothing before it is given up.
	LeaveTime time.Duration
	// PerContainer has metrics of each container.
	PerContainer bool
	// Misset is why settings cannot be read, see misset.go; nil: they can.
	Misset error
}

// segmentBytes is how much of a stream one file holds: what is evicted at a
// time, and small enough to be gone before the kernel writes it back where
// nothing is kept.
const segmentBytes = 4 << 20

const minSpool = 4 * segmentBytes

// ConfigFromEnv reads the settings that `docker plugin set` changes. Errors
// name the first setting that cannot be read, and its value. What is returned with
// one has the others as they say.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{StateDir: "/run/docker/logging/.dockline", Collectors: getenv("COLLECTORS"), ConfigFrom: getenv("CONFIG"), HostName: getenv("HOST_NAME"), SpoolMax: 1 << 30, MinFree: 256 << 20, LeaveTime: 10 * time.Minute}
	var first error
	wrong := func(key, value string, err error) {
		if first == nil {
			first = &options.ValueError{What: "setting", Key: key, Value: value, Err: err}
		}
	}
	if c.HostName == "" {
		// The engine gives its plugins a UTS namespace that begins as a copy
		// of the host's.
		name, err := os.Hostname()
		if err != nil {
			first = fmt.Errorf("ask for the host's name: %w", err)
		}
		c.HostName = name
	}
	if v := getenv("SPOOL_MAX"); v != "" {
		n, err := units.RAMInBytes(v)
		switch {
		case err != nil:
			wrong("SPOOL_MAX", v, fmt.Errorf("not a size such as 512MiB or 20GiB: %w", err))
		case n < minSpool:
			wrong("SPOOL_MAX", v, fmt.Errorf("less than the smallest spool, %s", units.BytesSize(minSpool)))
		default:
			c.SpoolMax = n
		}
	}
	if v := getenv("SPOOL_MIN_FREE"); v != "" {
		n, err := units.RAMInBytes(v)
		if err != nil || n < 0 {
			wrong("SPOOL_MIN_FREE", v, errors.New("not a size such as 0, 256MiB or 20GiB"))
		} else {
			c.MinFree = n
		}
	}
	if err := c.OnFull.UnmarshalText([]byte(getenv("ON_FULL"))); err != nil {
		wrong("ON_FULL", getenv("ON_FULL"), err)
	}
	var err error
	if c.Sync, err = spool.ParseSync(getenv("SYNC"), 0); err != nil {
		wrong("SYNC", getenv("SYNC"), err)
	}
	if v := c.ConfigFrom; v != "" && v != reload.None && !strings.HasPrefix(v, "consul://") && !strings.HasPrefix(v, "etcd://") {
		wrong("CONFIG", redact.List(v), errors.New("not one of consul://host:port/KEY, etcd://host:port/KEY, "+reload.None))
	}
	above, err := container.ParseRate(getenv("SPLIT_ABOVE"))
	if c.SplitAbove = above.Or(0); err != nil {
		wrong("SPLIT_ABOVE", getenv("SPLIT_ABOVE"), err)
	}
	if v := getenv("LOG_LEVEL"); v != "" {
		if err := c.LogLevel.UnmarshalText([]byte(v)); err != nil {
			wrong("LOG_LEVEL", v, errors.New("not one of debug, info, warn, error"))
		}
	}
	return c, first
}
