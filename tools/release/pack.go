package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Files of a release beside its artifacts.
const (
	sumsFile   = "SHA256SUMS"
	imagesFile = "IMAGES" // digests of the plugins as push leaves them in a registry
	archived   = ".tar.gz"
)

// release is what all artifacts of one have in common.
type release struct {
	version string
	date    time.Time // of the commit
}

// artifact is one file of a release.
type artifact struct {
	name   string // dockline-log
	arch   string
	plugin bool
	built  string // its folder or file
}

// file is what it is called in a release.
func (a artifact) file(version string) string {
	name := fmt.Sprintf("%s_%s_linux_%s", a.name, version, a.arch)
	if a.plugin {
		name += archived
	}
	return name
}

// binary is the program in it.
func (a artifact) binary() string {
	if a.plugin {
		return filepath.Join(a.built, "rootfs", a.name)
	}
	return a.built
}

// pack writes a release: an archive for each plugin, each program, what they are
// made of, the digests of the plugins' images, and the sums of all.
func pack(built, out string, rel release) error {
	all, err := find(built)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	licences := newLicences()
	var images []string
	for _, a := range all {
		file := filepath.Join(out, a.file(rel.version))
		if a.plugin {
			err = archive(a.built, file, rel.date)
		} else {
			err = copyFile(a.built, file)
		}
		if err != nil {
			return fmt.Errorf("pack %s for %s: %w", a.name, a.arch, err)
		}
		if err := writeSBOM(a, file, rel, licences); err != nil {
			return fmt.Errorf("say what is in %s: %w", a.file(rel.version), err)
		}
		if a.plugin {
			line, err := imageLine(a, file, rel.version)
			if err != nil {
				return fmt.Errorf("make an image of %s: %w", a.file(rel.version), err)
			}
			images = append(images, line)
		}
	}
	if err := os.WriteFile(filepath.Join(out, imagesFile), []byte(strings.Join(images, "")), 0o644); err != nil {
		return err
	}
	return writeSums(out)
}

// find lists what was built, in an order of its own.
func find(built string) (all []artifact, err error) {
	arches, err := os.ReadDir(built)
	if err != nil {
		return nil, err
	}
	for _, arch := range arches {
		entries, err := os.ReadDir(filepath.Join(built, arch.Name()))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			all = append(all, artifact{e.Name(), arch.Name(), e.IsDir(), filepath.Join(built, arch.Name(), e.Name())})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is nothing built in %s", built)
	}
	return all, nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		return err
	}
	return os.Chmod(to, 0o755) // whatever the umask
}

func sum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeSums writes what sha256sum -c reads.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, e := range entries {
		if e.Name() == sumsFile {
			continue
		}
		s, err := sum(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s  %s\n", s, e.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), []byte(lines.String()), 0o644)
}

// checkSums returns the files that a release has, and an error where they are not
// what their sums say.
func checkSums(dir string) (files []string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil {
		return nil, fmt.Errorf("find a release (make release): %w", err)
	}
	for line := range strings.Lines(string(data)) {
		want, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || name != filepath.Base(name) {
			return nil, fmt.Errorf("%s has the line %q, which is no sum of a file", sumsFile, line)
		}
		switch is, err := sum(filepath.Join(dir, name)); {
		case err != nil:
			return nil, err
		case is != want:
			return nil, fmt.Errorf("%s is not the file that %s has the sum of", name, sumsFile)
		}
		files = append(files, name)
	}
	if !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, archived) }) {
		return nil, errors.New("there is no plugin in this release")
	}
	return files, nil
}
