// Package discover says which collectors a pool has, and follows changes: from a
// list that an operator wrote, a file, the DNS, Consul or etcd.
package discover

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/dockline/dockline/logdriver/route"
)

// Collector is one member of a pool.
type Collector struct {
	Name   string // identity in routing: the name parameter, else host and port
	Weight uint32
	URL    *url.URL // without the parameters that are read here
}

// ID returns what sets the collector apart from every other: two with the same
// id are one.
func (c Collector) ID() string {
	return url.QueryEscape(c.Name) + " " + strconv.FormatUint(uint64(c.Weight), 10) + " " + c.URL.String()
}

// Equal reports whether both are the same in every way.
func (c Collector) Equal(d Collector) bool { return c.ID() == d.ID() }

// ParseList reads a list of collector URLs, parted by commas or white space.
// Each may carry the parameters name and weight; the others are for the sink
// that the scheme names. An error names the entry that it is about, without
// its credentials.
func ParseList(list string) ([]Collector, error) {
	var out []Collector
	seen := map[string]bool{}
	for _, entry := range strings.FieldsFunc(list, isSeparator) {
		c, err := parse(entry)
		if err != nil {
			return nil, err
		}
		if seen[c.Name] {
			return nil, fmt.Errorf("collector %q is listed twice; give each a name of its own with ?name=", c.Name)
		}
		seen[c.Name] = true
		out = append(out, c)
	}
	return out, nil
}

func parse(entry string) (Collector, error) {
	u, err := url.Parse(entry)
	if err != nil {
		return Collector{}, fmt.Errorf("collector %q: %w", redact(entry), unwrapURL(err))
	}
	if u.Scheme == "" || u.Host == "" {
		return Collector{}, fmt.Errorf("collector %q: not of the form scheme://host:port, as each that a list has between its commas has to be", redact(entry))
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Collector{}, fmt.Errorf("collector %q: parameters: %w", redact(entry), err)
	}
	for key, values := range q {
		if len(values) > 1 {
			return Collector{}, fmt.Errorf("collector %q: parameter %s is given %d times", redact(entry), key, len(values))
		}
	}
	c := Collector{Name: u.Host, Weight: 1, URL: u}
	if q.Has("name") {
		c.Name = q.Get("name")
	}
	if q.Has("weight") {
		w, err := strconv.ParseUint(q.Get("weight"), 10, 32)
		if err != nil || w > route.MaxWeight {
			return Collector{}, fmt.Errorf("collector %q: weight=%q is not a whole number in 0..%d", redact(entry), q.Get("weight"), route.MaxWeight)
		}
		c.Weight = uint32(w)
	}
	if c.Name == "" {
		return Collector{}, fmt.Errorf("collector %q: the name is empty", redact(entry))
	}
	q.Del("name")
	q.Del("weight")
	u.RawQuery = q.Encode()
	return c, nil
}

// unwrapURL takes from an error the URL that it would repeat, password and all.
func unwrapURL(err error) error {
	var bad *url.Error
	if errors.As(err, &bad) {
		return bad.Err
	}
	return err
}

// RedactList returns a list for people to read: without what may be a password.
func RedactList(list string) string {
	parts := strings.FieldsFunc(list, isSeparator)
	for i := range parts {
		parts[i] = redact(parts[i])
	}
	return strings.Join(parts, ",")
}

func isSeparator(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }

// redact takes what may be a password out of an entry that did not parse.
func redact(entry string) string {
	scheme, rest, ok := strings.Cut(entry, "://")
	if !ok {
		return entry
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		return scheme + "://…@" + rest[at+1:]
	}
	return entry
}
