package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// archive writes a folder as a tar.gz in which everything belongs to root and is
// of one date.
func archive(folder, file string, date time.Time) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := writeTar(out, folder, date); err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil { // whatever the umask
		return err
	}
	return out.Close()
}

// writeTar walks in the order of names. Modes are the two that there are here:
// what can be run, and what cannot.
func writeTar(out io.Writer, folder string, date time.Time) error {
	z := gzip.NewWriter(out) // whose header has no name and no time
	w := tar.NewWriter(z)
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: name, Mode: 0o644, ModTime: date, Format: tar.FormatUSTAR}
		switch {
		case d.IsDir():
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
			return w.WriteHeader(h)
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is neither a file nor a folder", path)
		case info.Mode()&0o100 != 0:
			h.Mode = 0o755
		}
		h.Size = info.Size()
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return z.Close()
}
