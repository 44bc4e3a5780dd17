package logdriver

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
)

// maxSecret bounds a file that holds a secret, and maxPoolFile any other that a
// pool names, in bytes.
const (
	maxSecret   = 64 << 10
	maxPoolFile = 1 << 20
)

// member opens a collector as its pool says.
func (p *pools) member(def *config.Pool, c discover.Collector, dir string) (ship.Collector, error) {
	d, err := p.dress(def, c, dir)
	if err != nil {
		return ship.Collector{}, err
	}
	s, err := openSink([]*url.URL{d.url}, p.host(dir, c.Name))
	if err != nil {
		return ship.Collector{}, hide(err, d.secrets)
	}
	return ship.Collector{Name: c.Name, ID: d.id, Sink: s}, nil
}

// host is what a collector sees of the host, and says in the log in its own name.
func (p *pools) host(dir, collector string) sink.Host {
	return sink.Host{Resolver: p.names, Config: dir, Etc: p.etc, Journal: p.journal, Log: p.log.With("collector", collector)}
}

// dressed is a collector's URL with what its pool says of all.
type dressed struct {
	url     *url.URL
	id      string   // sets it apart from every other, and says no secret that the pool has
	secrets []string // in the URL
}

// dress gives a collector its pool's options, the paths of its files, and its
// secrets, which nobody else gets to see.
func (p *pools) dress(def *config.Pool, c discover.Collector, dir string) (dressed, error) {
	u := *c.URL
	sum := sha256.New()
	q := u.Query()
	for _, key := range slices.Sorted(maps.Keys(def.Options)) {
		if !q.Has(key) {
			q.Set(key, def.Options[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(def.Files)) {
		path := p.filePath(def.Files[key], dir)
		if err := hashFile(sum, path); err != nil {
			return dressed{}, fmt.Errorf("files: %s: %w", key, nameless(err, def.Files[key]))
		}
		q.Set(key, def.Files[key])
	}
	var secrets []string
	for _, key := range slices.Sorted(maps.Keys(def.Secrets)) {
		secret, err := readSecret(p.filePath(def.Secrets[key], dir))
		if err != nil {
			return dressed{}, fmt.Errorf("secrets: %s: %w", key, nameless(err, def.Secrets[key]))
		}
		secrets = append(secrets, secret)
		if key == "password" && u.User != nil {
			u.User = url.UserPassword(u.User.Username(), secret)
		} else {
			q.Set(key, secret)
		}
	}
	if len(def.Options)+len(def.Files)+len(secrets) > 0 {
		u.RawQuery = q.Encode()
	}
	id := u.String()
	if len(def.Files)+len(secrets) > 0 {
		_, _ = io.WriteString(sum, id)
		id = fmt.Sprintf("%s %x", c.URL, sum.Sum(nil))
	}
	return dressed{&u, id, secrets}, nil
}

// filePath returns where a file is that a pool names: beside the configuration,
// or where the host has it.
func (p *pools) filePath(name, dir string) string {
	return discover.Host{Etc: p.etc, Dir: dir}.Path(name)
}

func hashFile(to io.Writer, path string) error {
	data, err := readBounded(path, maxPoolFile)
	if err == nil {
		_, err = to.Write(data)
	}
	return err
}

// readBounded reads a file. One that is a pipe, or is huge, holds up nobody.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d bytes", most)}
	}
	return data, err
}

// nameless has an error name a file as the configuration does.
func nameless(err error, name string) error {
	var of *os.PathError
	if errors.As(err, &of) {
		return &os.PathError{Op: of.Op, Path: name, Err: of.Err}
	}
	return err
}

func readSecret(path string) (string, error) {
	data, err := readBounded(path, maxSecret)
	if err != nil {
		return "", err
	}
	secret := string(bytes.TrimRight(data, "\r\n"))
	if secret == "" {
		return "", &os.PathError{Op: "read", Path: path, Err: errors.New("it is empty")}
	}
	return secret, nil
}

// hide takes secrets out of what an error says. It has to be the last who looks
// into the error.
func hide(err error, secrets []string) error {
	text := err.Error()
	for _, s := range secrets {
		quoted := fmt.Sprintf("%q", s)
		for _, form := range []string{url.QueryEscape(s), url.PathEscape(s), quoted[1 : len(quoted)-1], s} {
			text = strings.ReplaceAll(text, form, "…")
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}
