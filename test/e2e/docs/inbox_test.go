package docs_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness/collector"
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

// arrives waits until a collector has a line of a container that has this text
// in it. "" as the collector is any.
func (w *world) arrives(at, container, text string) {
	w.Helper()
	ctx, cancel := context.WithTimeoutCause(w.Context(), 20*time.Second, errors.New("nothing arrives"))
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
