package docs_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/proc"
)

// letter is a record as some collector took it.
type letter struct{ collector, container, line string }

// inbox is what collectors took since the world was reset.
type inbox struct {
	mu    sync.Mutex // guards what follows
	all   []letter
	taken chan struct{} // closed, and replaced, when something comes
}

func newInbox() *inbox { return &inbox{taken: make(chan struct{})} }

func (i *inbox) add(l letter) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = append(i.all, l)
	close(i.taken)
	i.taken = make(chan struct{})
}

// find returns the first that is wanted.
func (i *inbox) find(want func(letter) bool) (found letter, ok bool, next <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, l := range i.all {
		if want(l) {
			return l, true, nil
		}
	}
	return letter{}, false, i.taken
}

func (i *inbox) String() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return fmt.Sprintf("%q", i.all)
}

const arriveTime = 3 * time.Minute

// arrives waits until a collector has a line of a container that has this text
// in it. "" as the collector is any.
func (w *world) arrives(at, container, text string) {
	w.Helper()
	ctx, cancel := context.WithTimeoutCause(w.Context(), arriveTime, errors.New("nothing arrives"))
	defer cancel()
	for {
		_, ok, next := w.inbox.find(func(l letter) bool {
			return (at == "" || l.collector == at) && l.container == container && strings.Contains(l.line, text)
		})
		if ok {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			w.Fatalf("collector %q has no line with %q of container %s; there are %s", at, text, container, w.inbox)
		}
	}
}

// webs starts web servers on the LAN that log by dockline-log, and waits until a
// collector has heard of each, for pages ask who that was. Those of an earlier
// scene may have had the same names.
func (w *world) webs(names []string, options ...string) {
	w.Helper()
	for _, name := range names {
		before := w.inbox.count(name)
		w.rack1.Docker(slices.Concat([]string{"run", "-d", "--name", name, "--network", "lan", "--log-driver", "dockline-log"}, options, []string{"nginx"})...)
		w.awaits("nothing new of container "+name, func() bool { return w.inbox.count(name) > before })
	}
}

// count is how many records of a container were taken.
func (i *inbox) count(container string) (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, l := range i.all {
		if l.container == container {
			n++
		}
	}
	return n
}

// awaits polls what tells nobody that it has changed.
func (w *world) awaits(otherwise string, done func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeoutCause(w.Context(), arriveTime, errors.New(otherwise))
	defer cancel()
	if err := proc.Await(ctx, func(context.Context) error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		w.Fatal(err)
	}
}

// collectors has collectors listen where these URLs say, each known by host and
// port, as the plugin calls them.
func (w *world) collectors(urls ...string) {
	w.Helper()
	for _, u := range urls {
		_, addr, _ := strings.Cut(u, "://")
		w.collector(addr, u)
	}
}

// collector has one listen, with a name of its own.
func (w *world) collector(name, at string) (server *collector.Server) {
	w.Helper()
	u, err := url.Parse(at)
	if err != nil {
		w.Fatal(err)
	}
	inbox := w.inbox
	w.logs.Do(func() (err error) {
		server, err = collector.Start(collector.Options{Name: name, Proto: u.Scheme, Addr: u.Host, Each: func(r collector.Record) {
			inbox.add(letter{name, r.Container, string(r.Line)})
		}})
		return err
	})
	w.until(server.Close)
	return server
}
