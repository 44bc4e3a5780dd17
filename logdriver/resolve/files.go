package resolve

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Files says where the host's files are.
type Files struct {
	Etc    string // what the host has as /etc
	Linked string // where a resolv.conf that is a link leads to, or a folder above that
	Own    string // the process's own /etc, for what is not found there
}

// Host is where the plugin's configuration mounts the host's files.
func Host() Files { return Files{Etc: "/host/etc", Linked: "/host/resolv", Own: "/etc"} }

const (
	hostsFile  = "hosts"
	resolvFile = "resolv.conf"
	// maxFile bounds what is read of a file: hosts files against advertisements
	// have some megabytes.
	maxFile = 16 << 20
	// maxLinks is what the kernel follows at most, too.
	maxLinks = 40
)

func (f Files) hosts() []byte {
	if data, err := read(filepath.Join(f.Etc, hostsFile)); err == nil {
		return data
	}
	data, _ := read(filepath.Join(f.Own, hostsFile)) // without any, it is empty
	return data
}

// resolvConf returns the host's resolv.conf. If that is a link to somewhere
// that cannot be seen from here, unseen is where, and what is returned is the
// process's own.
func (f Files) resolvConf() (data []byte, unseen string) {
	path, unseen := f.follow("/etc/" + resolvFile)
	if unseen == "" {
		if data, err := read(path); err == nil {
			return data, ""
		}
	}
	data, _ = read(filepath.Join(f.Own, resolvFile)) // without any, the host asks itself
	return data, unseen
}

// follow returns where a file of the host is found here, behind any links. If
// one leads out of what can be seen, unseen is where to. Links are followed by
// hand, because what they say is true on the host, not here.
func (f Files) follow(name string) (path, unseen string) {
	for range maxLinks {
		path, ok := f.find(name)
		if !ok {
			return "", name
		}
		to, err := os.Readlink(path)
		if err != nil {
			return path, "" // no link, or missing
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(name), to)
		}
		name = filepath.Clean(to)
	}
	return "", name
}

// find returns where a file of the host, given by its clean absolute path, is
// seen here. Linked may be any folder above the file, so that its path is tried
// from the first folder on, from the second, and so on.
func (f Files) find(name string) (path string, ok bool) {
	if rest, in := strings.CutPrefix(name, "/etc/"); in {
		return filepath.Join(f.Etc, rest), true
	}
	for rest := name; rest != ""; {
		_, rest, _ = strings.Cut(rest, "/")
		path := filepath.Join(f.Linked, rest)
		if info, err := os.Lstat(path); rest != "" && err == nil && info.Mode().IsRegular() {
			return path, true
		}
	}
	return "", false
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFile))
}
