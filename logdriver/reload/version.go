package reload

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/wholefile"
	"github.com/dockline/dockline/logdriver/config"
)

const (
	versionDigits = 16
	maxBeside     = 16 << 20 // bytes of the files beside a configuration
	maxDepth      = 4        // of folders there
)

// version is a configuration with the files that lie beside it.
type version struct {
	id    string
	text  []byte
	files map[string][]byte // by their path in the directory; not the configuration
}

// readVersion reads the files beside a configuration; none where dir is "". A
// file that cannot be read is as if it were not there: only who names it misses it.
func readVersion(text []byte, dir string) (*version, error) {
	v := &version{text: text, files: map[string][]byte{}}
	if dir != "" {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("read the files beside the configuration: %w", err)
		}
		defer root.Close()
		left := maxBeside
		if err := v.readFolder(root, dir, ".", 0, &left); err != nil {
			return nil, err
		}
	}
	sum := sha256.New()
	part := func(b []byte) {
		_ = binary.Write(sum, binary.BigEndian, int64(len(b))) // never fails
		_, _ = sum.Write(b)
	}
	part(text)
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		part([]byte(name))
		part(v.files[name])
	}
	v.id = hex.EncodeToString(sum.Sum(nil))[:versionDigits]
	return v, nil
}

// readFolder passes over what cannot be read, and links that lead out of dir.
func (v *version) readFolder(root *os.Root, dir, at string, depth int, left *int) error {
	entries, err := fs.ReadDir(root.FS(), at)
	if err != nil {
		return fmt.Errorf("read the files beside the configuration: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(at, e.Name())
		if strings.HasPrefix(e.Name(), ".") || name == config.FileName {
			continue // editors' files, and Kubernetes' links
		}
		info, err := root.Stat(name) // a link is what it leads to
		switch {
		case err != nil:
		case info.IsDir() && depth < maxDepth:
			if err := v.readFolder(root, dir, name, depth+1, left); err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
		case info.Mode().IsRegular():
			if *left -= int(min(info.Size(), maxBeside+1)); *left < 0 {
				return fmt.Errorf("the files beside the configuration are more than %d bytes: keep nothing else in that directory", maxBeside)
			}
			if data, err := (hostfile.Places{Config: dir}).Read(name, maxBeside); err == nil {
				v.files[name] = data
			}
		}
	}
	return nil
}

// keep writes the version below dir, where only root can read it.
func (v *version) keep(dir string) error {
	to := filepath.Join(dir, v.id)
	err := os.RemoveAll(to)
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	write := func(name string, data []byte) {
		if err == nil {
			err = wholefile.Write(filepath.Join(to, name), data, true)
		}
	}
	for name, data := range v.files {
		write(name, data)
	}
	write(config.FileName, v.text)
	if err != nil {
		return errors.Join(fmt.Errorf("keep the configuration for when its source is away: %w", err), os.RemoveAll(to))
	}
	return nil
}

func (v *version) discard(dir string) error { return os.RemoveAll(filepath.Join(dir, v.id)) }

// install makes the version the one in force, and removes those before it.
func (v *version) install(dir string) error {
	tmp := filepath.Join(dir, "."+current)
	err := os.Remove(tmp)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Symlink(v.id, tmp)
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, current))
	}
	if err != nil {
		return fmt.Errorf("note which configuration is in force: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // it is in force; what is left over goes with the next
	}
	for _, e := range entries {
		if e.Name() != v.id && e.Name() != current && e.Name() != originFile {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	return nil
}
