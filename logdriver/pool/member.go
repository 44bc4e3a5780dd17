package pool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/redact"
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
func (h Host) member(def *config.Pool, c discover.Collector) (ship.Collector, error) {
	d, err := h.dress(def, c)
	if err != nil {
		return ship.Collector{}, err
	}
	s, err := openSink([]*url.URL{d.url}, h.host(c.Name))
	if err != nil {
		return ship.Collector{}, hide(err, d.secrets)
	}
	return ship.Collector{Name: c.Name, ID: d.id, Sink: s}, nil
}

// host is what a collector sees of the host, and says in the log in its own name.
func (h Host) host(collector string) sink.Host {
	return sink.Host{Resolver: h.Names, Config: h.Config, Etc: h.Etc, Journal: h.Journal, Log: h.Log.With("collector", collector)}
}

// dressed is a collector's URL with what its pool says of all.
type dressed struct {
	url     *url.URL
	id      string   // sets it apart from every other, and says no secret that the pool has
	secrets []string // in the URL
}

// dress gives a collector its pool's options, the paths of its files, and its
// secrets, which nobody else gets to see.
func (h Host) dress(def *config.Pool, c discover.Collector) (dressed, error) {
	u := *c.URL
	sum := sha256.New()
	q := u.Query()
	for _, key := range slices.Sorted(maps.Keys(def.Options)) {
		if !q.Has(key) {
			q.Set(key, def.Options[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(def.Files)) {
		data, err := h.files().Read(def.Files[key], maxPoolFile)
		if err != nil {
			return dressed{}, fmt.Errorf("files: %s: %w", key, err)
		}
		_, _ = sum.Write(data) // never fails
		q.Set(key, def.Files[key])
	}
	var secrets []string
	for _, key := range slices.Sorted(maps.Keys(def.Secrets)) {
		secret, err := readSecret(h.files(), def.Secrets[key])
		if err != nil {
			return dressed{}, fmt.Errorf("secrets: %s: %w", key, err)
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

func readSecret(files hostfile.Places, name string) (string, error) {
	data, err := files.Read(name, maxSecret)
	if err != nil {
		return "", err
	}
	secret := string(bytes.TrimRight(data, "\r\n"))
	if secret == "" {
		return "", fmt.Errorf("%s: it is empty", name)
	}
	return secret, nil
}

// hide takes secrets out of what an error says. It has to be the last who looks
// into the error.
func hide(err error, secrets []string) error {
	if text := redact.Values(err.Error(), secrets...); text != err.Error() {
		return errors.New(text)
	}
	return err
}
