// Package wholefile writes small files of our own state, of which a reader sees
// what was there before or what is there now, and nothing between.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces a file, and makes its folder where there is none; only root can
// read them. If synced, what is written survives a power cut.
func Write(name string, data []byte, synced bool) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if synced && err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil || !synced {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
