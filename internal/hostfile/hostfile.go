// Package hostfile reads the files that operators name in settings, options and
// URLs: certificates, passwords, lists. Who may name one need not be root, so what
// can be read that way is confined to two folders, and bounded.
package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// Places are the folders in which files are looked for.
type Places struct {
	Config string // that of relative names; "" for none
	Etc    string // where the host's /etc is seen, "" for /etc itself
}

// Check refuses names of files that cannot be seen, wherever the plugin runs.
func (p Places) Check(name string) error {
	_, _, err := p.place(name)
	return err
}

// Read returns what is in a file, which is looked for anew each time: below Config
// where the name is relative, else below the host's /etc. A link may not lead out of
// there. One that is a pipe, or is larger than so many bytes, holds up nobody.
// Errors name the file as the operator does.
func (p Places) Read(name string, most int64) ([]byte, error) {
	dir, rest, err := p.place(name)
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
	return read(f, name, most)
}

// Folder returns where the folder of a file is, for who wants to be told of changes.
func (p Places) Folder(name string) (string, error) {
	dir, rest, err := p.place(name)
	return filepath.Join(dir, filepath.Dir(rest)), err
}

// Read returns what is in a file at a path that nobody but root has chosen. Like
// Places.Read, it waits for no pipe, and reads no more than so many bytes.
func Read(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f, path, most)
}

func read(f *os.File, name string, most int64) ([]byte, error) {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return data, nil
}

func (p Places) place(name string) (dir, rest string, err error) {
	clean := path.Clean(name)
	if below, ok := strings.CutPrefix(clean, "/etc/"); ok {
		dir, rest = p.Etc, below
		if dir == "" {
			dir = "/etc"
		}
		return dir, rest, nil
	}
	switch {
	case name == "":
		return "", "", errors.New("the name of a file is empty")
	case path.IsAbs(clean):
		return "", "", fmt.Errorf("%s: only files below the host's /etc, or with a name relative to the folder for configuration, can be seen", name)
	case clean == ".." || strings.HasPrefix(clean, "../"):
		return "", "", fmt.Errorf("%s: leads out of the folder for configuration", name)
	case p.Config == "":
		return "", "", fmt.Errorf("%s: there is no folder for configuration here; give a name that begins with /etc/", name)
	}
	return p.Config, clean, nil
}

// reason takes from an error the path that the operator does not know.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
