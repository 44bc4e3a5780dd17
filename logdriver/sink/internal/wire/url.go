package wire

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/docker/go-units"

	"github.com/dockline/dockline/internal/options"
)

// ParamKind is how errors name a parameter of a collector's URL.
const ParamKind = "collector parameter"

// Bounds of the parameter `timeout`, and its value where it is not given. The
// default outlasts a collector's restart and a few retransmissions.
const (
	DefaultTimeout = 30 * time.Second
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 10 * time.Minute
)

// minLine is the shortest bound that makes sense for a line, in bytes.
const minLine = 1 << 10

// Target is a checked collector URL.
type Target struct {
	Addr   string            // host:port, as net.Dial takes it
	Params map[string]string // the query, each key known and given once
}

// ParseTarget checks u, which has to name a host, and a port where defaultPort
// is "", and may have the known query parameters, once each. Everything else
// that a URL can hold means nothing to a TCP sink and is an error.
func ParseTarget(u *url.URL, scheme, defaultPort string, known []string) (*Target, error) {
	if u.Scheme != scheme {
		return nil, fmt.Errorf("collector URL: scheme %q is not %q", u.Scheme, scheme)
	}
	if err := checkBare(u); err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", u.Redacted(), err)
	}
	addr, err := hostPort(u, defaultPort)
	if err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", u.Redacted(), err)
	}
	params, err := parseParams(u.RawQuery, known)
	if err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", u.Redacted(), err)
	}
	return &Target{Addr: addr, Params: params}, nil
}

// checkBare refuses the parts of a URL that a TCP sink has no use for.
func checkBare(u *url.URL) error {
	switch {
	case u.Opaque != "":
		return errors.New("want // before the host")
	case u.User != nil:
		return errors.New("user and password have no meaning here")
	case u.Path != "" && u.Path != "/":
		return fmt.Errorf("path %q has no meaning here", u.Path)
	case u.Fragment != "":
		return fmt.Errorf("fragment %q has no meaning here", u.Fragment)
	}
	return nil
}

func hostPort(u *url.URL, defaultPort string) (string, error) {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return "", errors.New("host is missing")
	}
	if port == "" {
		port = defaultPort
	}
	if port == "" {
		return "", errors.New("port is missing")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port %q is not within 1 to 65535", port)
	}
	return net.JoinHostPort(host, port), nil
}

func parseParams(rawQuery string, known []string) (map[string]string, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, fmt.Errorf("parse parameters: %w", err)
	}
	if err := options.CheckKeys(ParamKind, query, known); err != nil {
		return nil, err
	}
	params := make(map[string]string, len(query))
	for key, values := range query {
		if len(values) != 1 {
			return nil, fmt.Errorf("%s %q is given %d times", ParamKind, key, len(values))
		}
		params[key] = values[0]
	}
	return params, nil
}

// MaxLine returns the parameter `max-line`: the longest line, in bytes, that is
// sent in one message; longer ones are sent in pieces. 0 is no bound.
func (t *Target) MaxLine(standard int) (int, error) {
	text, given := t.Params["max-line"]
	if !given {
		return standard, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil {
		err = fmt.Errorf("not a size such as 8k or 1m: %w", err)
	} else if n != 0 && n < minLine || n > math.MaxInt32 {
		err = fmt.Errorf("neither 0, for no bound, nor within %d to %d bytes", minLine, math.MaxInt32)
	}
	if err != nil {
		return 0, &options.ValueError{What: ParamKind, Key: "max-line", Value: text, Err: err}
	}
	return int(n), nil
}

// Timeout returns the parameter `timeout`: for how long a collector may
// acknowledge nothing while it has something to acknowledge.
func (t *Target) Timeout() (time.Duration, error) {
	text, given := t.Params["timeout"]
	if !given {
		return DefaultTimeout, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && (d < minTimeout || d > maxTimeout) {
		err = fmt.Errorf("not within %v to %v", minTimeout, maxTimeout)
	}
	if err != nil {
		return 0, &options.ValueError{What: ParamKind, Key: "timeout", Value: text, Err: err}
	}
	return d, nil
}
