package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/redact"
)

// Source says who the members of a pool are.
type Source interface {
	// Follow calls set with all members as soon as they are known and on each
	// change. It returns when it cannot go on, with the reason, and may be called
	// again then, or at ctx's end, with any error or none.
	Follow(ctx context.Context, set func([]Collector)) error
	// String names the source for people, without credentials.
	String() string
	// ID sets the source apart from every other: two with the same id are one.
	ID() string
}

// Static is a source that never changes, and needs no asking.
type Static []Collector

// ID returns those of the members.
func (s Static) ID() string {
	var ids []string
	for _, c := range s {
		ids = append(ids, c.ID())
	}
	return strings.Join(ids, ",")
}

// Follow tells the members once.
func (s Static) Follow(ctx context.Context, set func([]Collector)) error {
	set(s)
	<-ctx.Done()
	return nil
}

func (s Static) String() string {
	var ids []string
	for _, c := range s {
		ids = append(ids, redact.URL(c.URL))
	}
	return strings.Join(ids, ",")
}

// Host is what sources see of the host.
type Host struct {
	Names Names
	// Etc is where the host's /etc is seen, "" for /etc itself. Files are named as
	// the host names them.
	Etc string
	// Dir is where files are that are named without a folder to begin at.
	Dir string
}

func (h Host) files() hostfile.Places { return hostfile.Places{Config: h.Dir, Etc: h.Etc} }

// kinds maps the prefixes of schemes to the sources behind them.
var kinds = map[string]func(*url.URL, Host) (Source, error){
	"file":   newFile,
	"dns":    newDNS,
	"srv":    newSRV,
	"consul": newConsul,
	"etcd":   newEtcd,
}

// Parse reads a list as ParseList does, in which an entry may also name a
// source of members by a prefix to the scheme:
//
//	file:///etc/dockline/pools/web           a file with a list, watched
//	dns+json+tcp://logs.example:5170         one for each address of the name
//	srv+json+tcp://_logs._tcp.example        one for each SRV record
//	consul+json+tcp://127.0.0.1:8500/logs    one for each healthy instance of a service
//	etcd+json+tcp://127.0.0.1:2379/logs/     one for each key below a prefix
func Parse(list string, host Host) ([]Source, error) {
	var fixed []entry
	var sources []Source
	for _, e := range entriesOf(list) {
		kind, isSource := kindOf(e.text)
		if !isSource {
			fixed = append(fixed, e)
			continue
		}
		u, err := parseURL(e.text)
		if err != nil {
			return nil, e.error(err)
		}
		u.Scheme = strings.TrimPrefix(strings.TrimPrefix(u.Scheme, kind), "+")
		s, err := kinds[kind](u, host)
		if err == nil && (u.Query().Has("name") || u.Query().Has("weight")) {
			err = errors.New("name and weight are for a collector; this is a source of them")
		}
		if err != nil {
			return nil, e.error(err)
		}
		sources = append(sources, s)
	}
	if len(fixed) > 0 {
		members, err := parseEntries(fixed)
		if err != nil {
			return nil, err
		}
		sources = append(sources, Static(members))
	}
	return sources, nil
}

func kindOf(entry string) (string, bool) {
	scheme, _, _ := strings.Cut(entry, "://")
	kind, _, _ := strings.Cut(scheme, "+")
	return kind, kinds[kind] != nil
}

// Described is a Source that knows what its members are like before it has asked.
type Described interface {
	Source
	// Example is a member that there could be.
	Example() Collector
}

// State is what is known of one source.
type State struct {
	Source  string // its name
	ID      string
	Members []Collector
	Since   time.Time // when they were told; zero: never
	Err     error     // why they may be out of date

	Failures uint64 // how often it did not say
	Warning  string // what is not as safe as it could be; "" for nothing
	Fixed    bool   // a list, which says the same for ever
}

// first returns what is known of sources that have not been asked yet, where last
// has the members that those with such an id named before.
func first(sources []Source, last map[string][]Collector) []State {
	states := make([]State, len(sources))
	for i, s := range sources {
		states[i] = State{Source: s.String(), ID: s.ID(), Members: last[s.ID()], Warning: Exposed(s)}
		if fixed, ok := s.(Static); ok {
			states[i].Members, states[i].Fixed = fixed, true
		}
	}
	return states
}

// Known returns the members that Follow begins with.
func Known(sources []Source, last map[string][]Collector) []Collector {
	return union(first(sources, last))
}

// event is what one of several sources said.
type event struct {
	source  int
	members []Collector
	err     error
}

// Retry bounds how long a source that failed is left alone.
const (
	retryMin = time.Second
	retryMax = time.Minute
)

// Follow follows all sources until ctx ends, beginning with what is known of
// their last members, by id, and calls set with the union of
// their members whenever it changes, and with the states of the sources whenever
// those do. A source that fails keeps what it said last, and one that names no
// members at all does too: an empty answer is more often a fault of whoever gives
// it than a wish to send nothing anywhere. A name that two sources have counts
// once, in the order of the sources.
func Follow(ctx context.Context, sources []Source, last map[string][]Collector, set func([]Collector, []State)) {
	events := make(chan event)
	var all sync.WaitGroup
	defer all.Wait()
	states := first(sources, last)
	for i, s := range sources {
		if !states[i].Fixed {
			all.Go(func() { follow(ctx, i, s, events) })
		}
	}
	set(union(states), slices.Clone(states))
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			st := &states[e.source]
			switch {
			case e.err != nil:
				st.Err = e.err
				st.Failures++
			case len(e.members) == 0 && len(st.Members) > 0:
				st.Failures++
				st.Err = fmt.Errorf("it names no collectors now; the %d that it named before stay", len(st.Members))
			default:
				st.Members, st.Since, st.Err = e.members, time.Now(), nil
			}
			set(union(states), slices.Clone(states))
		}
	}
}

// follow follows one source for ever.
func follow(ctx context.Context, i int, s Source, events chan<- event) {
	send := func(e event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	retry(ctx, isNear(s), func(good func()) error {
		return s.Follow(ctx, func(m []Collector) {
			if len(m) > maxMembers {
				send(event{source: i, err: tooMany(len(m))})
				return
			}
			good()
			send(event{source: i, members: m})
		})
	}, func(err error) { send(event{source: i, err: err}) })
}

// isNear reports whether looking costs nothing: who mends a list wants to see it
// taken.
func isNear(s any) bool {
	switch s.(type) {
	case file, folder:
		return true
	}
	return false
}

// retry calls follow for ever, after a pause when it failed, which begins anew
// when it calls good.
func retry(ctx context.Context, near bool, follow func(good func()) error, failed func(error)) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = retryMin, retryMax
	if near {
		pause.MaxInterval = retryMin
	}
	for ctx.Err() == nil {
		err := follow(pause.Reset)
		if err == nil || ctx.Err() != nil {
			continue
		}
		failed(short(err))
		select {
		case <-ctx.Done():
		case <-time.After(pause.NextBackOff()):
		}
	}
}

func union(states []State) []Collector {
	byName := map[string]Collector{}
	for _, st := range slices.Backward(states) { // the first of them wins
		for _, c := range st.Members {
			byName[c.Name] = c
		}
	}
	var all []Collector
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name])
	}
	return all
}

// member is the collector at host and port that is otherwise like u.
func member(u *url.URL, hostport string, weight uint32) Collector {
	c := *u
	c.Host, c.Path, c.RawPath = hostport, "", ""
	return Collector{Name: hostport, Weight: weight, URL: &c}
}

// exampleHost is one that there is not (RFC 2606).
const exampleHost = "collector.invalid:1"

// sorted orders members by name. Of those with the same name one is left, always
// the same.
func sorted(members []Collector) []Collector {
	slices.SortFunc(members, func(a, b Collector) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID(), b.ID()))
	})
	return slices.CompactFunc(members, func(a, b Collector) bool { return a.Name == b.Name })
}

// take removes a parameter from u's query and returns it.
func take(u *url.URL, key string) string {
	q := u.Query()
	v := q.Get(key)
	q.Del(key)
	u.RawQuery = q.Encode()
	return v
}
