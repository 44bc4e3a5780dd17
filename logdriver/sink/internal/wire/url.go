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
	"github.com/dockline/dockline/logdriver/ship"
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

// Spec says what the URLs of a sink hold.
type Spec struct {
	Scheme string
	Port   string   // where a URL names none; "" if it has to
	Params []string // beside those that all sinks have, timeout and max-line

	// MaxLine is the standard of the parameter max-line: the longest line, in
	// bytes, that is sent in one message; longer ones are sent in pieces. 0 is no
	// bound.
	MaxLine int
}

// Target is a checked collector URL.
type Target struct {
	Addr    string // host:port, as net.Dial takes it
	MaxLine int    // see Spec
	// Timeout is for how long a collector may acknowledge nothing while it has
	// something to acknowledge.
	Timeout time.Duration
	Params  map[string]string // the query, each key known and given once

	resolver ship.Resolver
}

// ParseTarget checks u, which has to name a host, and may have the query
// parameters of the spec, once each. Everything else that a URL can hold means
// nothing to a TCP sink and is an error.
func ParseTarget(u *url.URL, resolver ship.Resolver, spec Spec) (*Target, error) {
	if u.Scheme != spec.Scheme {
		return nil, fmt.Errorf("collector URL: scheme %q is not %q", u.Scheme, spec.Scheme)
	}
	t := &Target{resolver: resolver}
	err := checkBare(u)
	if err == nil {
		t.Addr, err = hostPort(u, spec.Port)
	}
	if err == nil {
		t.Params, err = parseParams(u.RawQuery, append([]string{"timeout", "max-line"}, spec.Params...))
	}
	if err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", u.Redacted(), err)
	}
	if t.Timeout, err = t.timeout(); err != nil {
		return nil, err
	}
	if t.MaxLine, err = t.maxLine(spec.MaxLine); err != nil {
		return nil, err
	}
	return t, nil
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

func (t *Target) maxLine(standard int) (int, error) {
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

func (t *Target) timeout() (time.Duration, error) {
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
