// Package sink says what the sinks below it are given: what they see of the
// host that they work on.
package sink

import (
	"log/slog"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/logdriver/ship"
)

// maxFile bounds the files that sinks read: certificates, keys and passwords.
const maxFile = 1 << 20

// Host is what a sink sees of its host.
type Host struct {
	Resolver ship.Resolver
	Config   string // the folder below which files with relative names are
	Etc      string // where the host's /etc is seen, "" for /etc itself
	Journal  string // where the host's /run/systemd/journal is seen, "" for nowhere
	Log      *slog.Logger
}

// CheckName refuses names of files that the plugin cannot see, wherever it runs.
func (h Host) CheckName(name string) error { return h.places().Check(name) }

// ReadFile returns what is in a file, which is looked for anew each time: below
// Config where the name is relative, else below the host's /etc.
func (h Host) ReadFile(name string) ([]byte, error) { return h.places().Read(name, maxFile) }

func (h Host) places() hostfile.Places { return hostfile.Places{Config: h.Config, Etc: h.Etc} }
