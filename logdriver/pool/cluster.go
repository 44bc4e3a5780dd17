package pool

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/ship"
)

// maxPlaces is over how many of a cluster's places a heavy key is spread at most.
const maxPlaces = 64

// clusterOf returns the scheme of the first member that is a cluster's, "" where
// there is none.
func clusterOf(members []discover.Collector) string {
	known := clusters()
	for _, m := range members {
		if known[m.URL.Scheme] != nil {
			return m.URL.Scheme
		}
	}
	return ""
}

// cluster makes a pool of the members of a cluster: they are one collector, which
// spreads keys over places of its own. Those of weight 0 are not asked for the way.
func (h Host) cluster(pool ship.Pool, kind string, def *config.Pool, members []discover.Collector, mayBeEmpty bool) (ship.Pool, error) {
	var urls []*url.URL
	var ids, secrets []string
	for _, m := range members {
		if m.URL.Scheme != kind {
			return ship.Pool{}, fmt.Errorf("collector %q: a pool of %s is one cluster, and nothing else can be in it", redact.URL(m.URL), kind)
		}
		d, err := h.dress(def, m)
		if err != nil {
			return ship.Pool{}, err
		}
		if len(urls) > 0 && !alike(urls[0], d.url) {
			return ship.Pool{}, fmt.Errorf("collector %q: it differs from another of its pool in more than the host: they are one cluster, so say the same of each", redact.URL(m.URL))
		}
		if m.Weight > 0 {
			urls, ids, secrets = append(urls, d.url), append(ids, d.id), append(secrets, d.secrets...)
		}
	}
	if len(urls) == 0 {
		if mayBeEmpty {
			return pool, nil
		}
		return ship.Pool{}, errNobodyTakes
	}
	name, _, _ := strings.Cut(kind, "+")
	s, err := openSink(urls, h.host(name))
	if err != nil {
		return ship.Pool{}, hide(err, secrets)
	}
	slices.Sort(ids)
	id := fmt.Sprintf("%s %x", name, sha256.Sum256([]byte(strings.Join(ids, "\n"))))
	pool.Collectors = []ship.Collector{{Name: name, ID: id, Sink: s}}
	pool.Rank = func(string) []string { return []string{name} }
	pool.Share = func(string, []string, uint64) string { return name }
	pool.Among = func([]string) func([]byte) string { return func([]byte) string { return name } }
	pool.Places = maxPlaces
	return pool, nil
}

// alike reports whether two URLs differ in their hosts alone.
func alike(a, b *url.URL) bool {
	one, other := *a, *b
	one.Host, other.Host = "", ""
	return one.String() == other.String()
}
