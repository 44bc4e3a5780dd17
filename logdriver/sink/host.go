// Package sink says what the sinks below it are given: what they see of the
// host that they work on.
package sink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"syscall"

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
func (h Host) CheckName(name string) error {
	_, _, err := h.place(name)
	return err
}

// ReadFile returns what is in a file, which is looked for anew each time: below
// Config where the name is relative, else below the host's /etc. A link may not
// lead out of there. Errors name the file as the operator does.
func (h Host) ReadFile(name string) ([]byte, error) {
	dir, rest, err := h.place(name)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: the folder that it is looked for in: %w", name, reason(err))
	}
	defer root.Close()
	f, err := root.OpenFile(rest, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return data, nil
}

func (h Host) place(name string) (dir, rest string, err error) {
	clean := path.Clean(name)
	if below, ok := strings.CutPrefix(clean, "/etc/"); ok {
		dir, rest = h.Etc, below
		if dir == "" {
			dir = "/etc"
		}
		return dir, rest, nil
	}
	switch {
	case name == "":
		return "", "", errors.New("the name of a file is empty")
	case path.IsAbs(clean):
		return "", "", fmt.Errorf("%s: only files below /etc, or with a name relative to the folder for configuration, can be seen", name)
	case clean == ".." || strings.HasPrefix(clean, "../"):
		return "", "", fmt.Errorf("%s: leads out of the folder for configuration", name)
	case h.Config == "":
		return "", "", fmt.Errorf("%s: there is no folder for configuration here; give a name that begins with /etc/", name)
	}
	return h.Config, clean, nil
}

// reason takes from an error the path that the operator does not know.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
