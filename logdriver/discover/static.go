// Package discover says which collectors a pool has, and follows changes: from a
// list that an operator wrote, a file, the DNS, Consul or etcd.
package discover

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/dockline/dockline/internal/redact"
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
func ParseList(list string) ([]Collector, error) { return parseEntries(entriesOf(list)) }

// entry is one of a list.
type entry struct {
	n    int // which, from 1
	of   int // how many
	text string
	list string // all of it
}

// error says which entry an error is about: what it says is shown only as far as it
// is no secret for certain.
func (e entry) error(err error) error {
	if e.of == 1 {
		return fmt.Errorf("collector %q: %w", redact.Entry(e.text, e.list), err)
	}
	return fmt.Errorf("collector %q, which is number %d of the %d in the list: %w", redact.Entry(e.text, e.list), e.n, e.of, err)
}

func entriesOf(list string) (all []entry) {
	texts := strings.FieldsFunc(list, isSeparator)
	for i, text := range texts {
		all = append(all, entry{i + 1, len(texts), text, list})
	}
	return all
}

func parseEntries(entries []entry) ([]Collector, error) {
	var out []Collector
	seen := map[string]bool{}
	for _, e := range entries {
		c, err := parse(e.text)
		if err != nil {
			return nil, e.error(err)
		}
		if seen[c.Name] {
			return nil, fmt.Errorf("collector %q is listed twice; give each a name of its own with ?name=", c.Name)
		}
		seen[c.Name] = true
		out = append(out, c)
	}
	return out, nil
}

func parse(text string) (Collector, error) {
	u, err := parseURL(text)
	if err != nil {
		return Collector{}, err
	}
	if u.Scheme == "" || u.Host == "" {
		return Collector{}, errors.New("not of the form scheme://host:port, as each that a list has between its commas has to be")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Collector{}, fmt.Errorf("parameters: %w", redact.NotQuery(err))
	}
	for key, values := range q {
		if len(values) > 1 {
			return Collector{}, fmt.Errorf("parameter %s is given %d times", key, len(values))
		}
	}
	c := Collector{Name: u.Host, Weight: 1, URL: u}
	if q.Has("name") {
		c.Name = q.Get("name")
	}
	if q.Has("weight") {
		w, err := strconv.ParseUint(q.Get("weight"), 10, 32)
		if err != nil || w > route.MaxWeight {
			return Collector{}, fmt.Errorf("weight=%q is not a whole number in 0..%d", q.Get("weight"), route.MaxWeight)
		}
		c.Weight = uint32(w)
	}
	if c.Name == "" {
		return Collector{}, errors.New("the name is empty")
	}
	q.Del("name")
	q.Del("weight")
	u.RawQuery = q.Encode()
	return c, nil
}

// parseURL is url.Parse, but for what its errors say.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, redact.NotURL(err)
	case redact.Ambiguous(u):
		return nil, redact.ErrAmbiguous
	}
	return u, nil
}

func isSeparator(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }
