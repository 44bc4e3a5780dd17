package wire

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/sink"
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
	// Schemes maps those that the sink knows to the port where a URL names none,
	// "" if it has to. With one that ends in +tls or +https, TLS is spoken.
	Schemes map[string]string
	// Web says that user, password and path have a meaning.
	Web    bool
	Params []string // beside those that all sinks have

	// ALPN is what TLS offers to speak (RFC 7301); nil for nothing.
	ALPN []string

	// MaxLine is the standard of the parameter max-line: the longest line, in
	// bytes, that is sent in one message; longer ones are sent in pieces. 0 is no
	// bound.
	MaxLine int
	// MaxMessage is the standard of the parameter max-message, which a sink has that
	// names it among Params: ship.Limits.MessageBytes.
	MaxMessage int
}

// Target is a checked collector URL.
type Target struct {
	Addr       string // host:port, as net.Dial takes it
	MaxLine    int    // see Spec
	MaxMessage int    // see Spec
	// Timeout is for how long a collector may acknowledge nothing while it has
	// something to acknowledge.
	Timeout time.Duration
	Params  map[string]string // the query, each key known and given once
	Host    sink.Host
	User    *url.Userinfo // nil where there is none; only where Spec.Web says so
	Path    string        // as it is sent; only where Spec.Web says so

	security *security // nil where TLS is not spoken
}

// ParseTarget checks u, which has to name a host, and may have the query
// parameters of the spec, once each. Everything else that a URL can hold means
// nothing to these sinks and is an error.
func ParseTarget(u *url.URL, host sink.Host, spec Spec) (*Target, error) {
	port, known := spec.Schemes[u.Scheme]
	if !known {
		return nil, fmt.Errorf("collector URL: scheme %q is none of %q", u.Scheme, slices.Sorted(maps.Keys(spec.Schemes)))
	}
	t := &Target{Host: host}
	err := checkBare(u, spec.Web)
	if spec.Web {
		t.User, t.Path = u.User, u.EscapedPath()
	}
	if err == nil {
		t.Addr, err = hostPort(u, port)
	}
	if err == nil {
		err = t.parse(u, spec)
	}
	if err != nil {
		return nil, fmt.Errorf("collector URL %s: %w", redact.URL(u), err)
	}
	return t, nil
}

// parse reads the parameters.
func (t *Target) parse(u *url.URL, spec Spec) (err error) {
	secure := strings.HasSuffix(u.Scheme, "+tls") || strings.HasSuffix(u.Scheme, "+https")
	known := append([]string{"timeout", "max-line"}, spec.Params...)
	if secure {
		known = append(known, tlsParams()...)
	} else if slices.ContainsFunc(tlsParams(), u.Query().Has) {
		return fmt.Errorf("parameters that begin with tls- have no meaning with %s: TLS is not spoken", u.Scheme)
	}
	if t.Params, err = parseParams(u.RawQuery, known); err != nil {
		return err
	}
	if t.Timeout, err = t.timeout(); err != nil {
		return err
	}
	if t.MaxLine, err = t.Size("max-line", spec.MaxLine); err != nil {
		return err
	}
	if t.MaxMessage, err = t.Size("max-message", spec.MaxMessage); err != nil {
		return err
	}
	if secure {
		if t.security, err = parseSecurity(t.Params, t.Addr, t.Host); err == nil {
			t.security.alpn = spec.ALPN
		}
	}
	return err
}

// checkBare refuses the parts of a URL that these sinks have no use for.
func checkBare(u *url.URL, web bool) error {
	switch {
	case u.Opaque != "":
		return errors.New("want // before the host")
	case u.User != nil && !web:
		return errors.New("user and password have no meaning here")
	case u.Path != "" && u.Path != "/" && !web:
		return errors.New("a path has no meaning here")
	case u.Fragment != "":
		return errors.New("what follows a # has no meaning here; in a password or value write it as %23")
	}
	return nil
}

func hostPort(u *url.URL, defaultPort string) (string, error) {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return "", errors.New("host is missing")
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsFunc(host, unfit) {
		return "", fmt.Errorf("%q is not the name of a host, nor an address", host)
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

// unfit reports whether c is what no name of a host has, and a list may have.
func unfit(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`:;,/\|"'<>{}`, c) }

func parseParams(rawQuery string, known []string) (map[string]string, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, fmt.Errorf("parameters: %w", redact.NotQuery(err))
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

// Size returns a parameter that bounds what is sent, in bytes.
func (t *Target) Size(key string, standard int) (int, error) {
	text, given := t.Params[key]
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
		return 0, &options.ValueError{What: ParamKind, Key: key, Value: text, Err: err}
	}
	return int(n), nil
}

// Choice returns a parameter that is one of a few words, the first of which is
// meant where it is not given.
func (t *Target) Choice(key string, words ...string) (string, error) {
	text, given := t.Params[key]
	if !given {
		return words[0], nil
	}
	if !slices.Contains(words, text) {
		return "", &options.ValueError{What: ParamKind, Key: key, Value: text, Err: fmt.Errorf("not one of %s", strings.Join(words, ", "))}
	}
	return text, nil
}

func (t *Target) timeout() (time.Duration, error) {
	return t.Duration("timeout", DefaultTimeout, minTimeout, maxTimeout)
}

// Duration returns a parameter that is a time from least to most, as 30s.
func (t *Target) Duration(key string, standard, least, most time.Duration) (time.Duration, error) {
	text, given := t.Params[key]
	if !given {
		return standard, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && (d < least || d > most) {
		err = fmt.Errorf("not within %v to %v", least, most)
	}
	if err != nil {
		return 0, &options.ValueError{What: ParamKind, Key: key, Value: text, Err: err}
	}
	return d, nil
}
