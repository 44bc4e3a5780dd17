// Package engine finds, for the command, the engine that the docker command talks
// to, dockline's plugins in it, and the sockets on which these answer operators.
//
// It reads little of the engine's API and writes nothing, so it speaks HTTP by
// itself: the engine's own client brings dozens of modules.
package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// DefaultAddr is where the docker command looks when nobody says anything else.
const DefaultAddr = "unix:///var/run/docker.sock"

// Options are what the docker command was given before the plugin's name, and
// the environment that it goes by.
type Options struct {
	Host    string // -H
	Context string // -c
	Config  string // --config
	Getenv  func(string) string
}

// Addr returns the engine's address, by the docker command's own rules: the option,
// DOCKER_HOST, the context.
func (o Options) Addr() (string, error) {
	name := o.Context
	if name == "" {
		if addr := cmp.Or(o.Host, o.Getenv("DOCKER_HOST")); addr != "" {
			return addr, nil
		}
		name = o.Getenv("DOCKER_CONTEXT")
	}
	dir := cmp.Or(o.Config, o.Getenv("DOCKER_CONFIG"), filepath.Join(o.Getenv("HOME"), ".docker"))
	if name == "" {
		var config struct{ CurrentContext string }
		if err := readJSON(filepath.Join(dir, "config.json"), &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		name = config.CurrentContext
	}
	if name == "" || name == "default" {
		return DefaultAddr, nil
	}
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
	err := readJSON(filepath.Join(dir, "contexts/meta", id, "meta.json"), &meta)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no docker context %q: see docker context ls", name)
	}
	if err != nil {
		return "", err
	}
	return cmp.Or(meta.Endpoints["docker"].Host, DefaultAddr), nil
}

// maxFile bounds a file of the docker command's that is read.
const maxFile = 1 << 20

func readJSON(path string, to any) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the docker command's settings: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(to); err != nil {
		return fmt.Errorf("read the docker command's settings in %s: %w", path, err)
	}
	return nil
}

// Client asks one engine on this machine.
type Client struct {
	Addr   string // as it was found
	socket string
	http   *http.Client
}

// Dial returns the client of the engine. Nobody is reached yet.
func Dial(o Options) (*Client, error) {
	addr, err := o.Addr()
	if err != nil {
		return nil, err
	}
	socket, ok := strings.CutPrefix(addr, "unix://")
	if !ok {
		return nil, fmt.Errorf("the engine is at %s, and the plugins' sockets are on its machine: run this there, with DOCKER_HOST=%s, or name a socket with --socket", withoutUser(addr), DefaultAddr)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return &Client{Addr: addr, socket: socket, http: &http.Client{Transport: transport}}, nil
}

func withoutUser(addr string) string {
	u, err := url.Parse(addr)
	if err != nil {
		return "another address than a unix socket"
	}
	u.User = nil
	return u.String()
}

// StatusError is an answer of the engine's that says no.
type StatusError struct {
	Code int
	Text string
}

func (e *StatusError) Error() string { return e.Text }

// maxAnswer bounds what is read of one.
const maxAnswer = 64 << 20

// patience is how long an engine may take to answer: it waits for nobody to say
// what it has.
const patience = 10 * time.Second

// Get asks the engine and decodes its answer.
func (c *Client) Get(ctx context.Context, path string, to any) error {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(within, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the engine: %w", err)
	}
	res, err := c.http.Do(req)
	if of := new(url.Error); errors.As(err, &of) {
		err = of.Err
	}
	switch {
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the engine at %s has not answered for %v: it hangs, or has too much to do; with --socket /run/docker/plugins/ID/admin.sock it is not asked", c.Addr, patience)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to reach the engine at %s: run it as root, as with sudo docker dockline", c.Addr)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no engine answers at %s: is it running, and DOCKER_HOST right?", c.Addr)
	case err != nil:
		return fmt.Errorf("ask the engine at %s: %w", c.Addr, err)
	}
	defer res.Body.Close()
	body := io.LimitReader(res.Body, maxAnswer)
	if res.StatusCode != http.StatusOK {
		var said struct{ Message string }
		_ = json.NewDecoder(body).Decode(&said)
		return &StatusError{res.StatusCode, cmp.Or(said.Message, res.Status)}
	}
	if err := json.NewDecoder(body).Decode(to); err != nil {
		return fmt.Errorf("read the engine's answer: %w", err)
	}
	return nil
}
