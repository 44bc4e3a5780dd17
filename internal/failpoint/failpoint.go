// Package failpoint lets a test kill the process at a named step: between a
// change that it made and the one that would have come next.
//
// The points are compiled into the plugin that ships, so that what is tested is
// what runs. They do nothing unless the environment variable FAILPOINTS names a
// directory at the start of the process. No config.json that ships has that
// variable, and an engine passes on only what config.json lists: a test's copy
// of the plugin has to add it.
//
// In that directory the file "order" holds the name of a point, and how many
// passes to let go by first. Whoever reaches it takes the order away and dies,
// so that the next process does not die of it too. The file "seen" has a line
// for each point at its first pass in a process: that is how a test learns what
// points there are.
package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Variable is the environment variable that names the directory.
const Variable = "FAILPOINTS"

// The files in the directory.
const (
	Order = "order"
	Seen  = "seen"
)

// dir is "" in every process but a test's.
var dir = os.Getenv(Variable)

var state struct {
	mu   sync.Mutex // guards all below
	seen map[string]bool
	skip int // passes of the ordered point so far
	last string
}

// Hit passes the point of that name, made of the parts. A process that was told
// to die there does not come back.
func Hit(parts ...string) {
	if dir == "" {
		return
	}
	hit(strings.Join(parts, " "))
}

func hit(name string) {
	state.mu.Lock()
	defer state.mu.Unlock()
	if !state.seen[name] {
		if state.seen == nil {
			state.seen = map[string]bool{}
		}
		state.seen[name] = true
		note(name)
	}
	order := filepath.Join(dir, Order)
	raw, err := os.ReadFile(order)
	if err != nil {
		return // no order
	}
	point, skip := parse(string(raw))
	if point != name {
		return
	}
	if string(raw) != state.last {
		state.last, state.skip = string(raw), 0
	}
	if state.skip++; state.skip <= skip {
		return
	}
	if os.Remove(order) == nil {
		die()
	}
}

// die is a crash: nothing is flushed, no deferred call runs. It is not a signal,
// for the kernel protects a plugin, which is process 1 in its namespace, from
// its own.
var die = func() { os.Exit(137) }

// Format is what an order says.
func Format(point string, skip int) string { return fmt.Sprintf("%s\n%d\n", point, skip) }

func parse(order string) (point string, skip int) {
	point, count, _ := strings.Cut(order, "\n")
	skip, _ = strconv.Atoi(strings.TrimSpace(count))
	return point, skip
}

func note(name string) {
	f, err := os.OpenFile(filepath.Join(dir, Seen), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return // a test that looks for the point will miss it
	}
	_, _ = f.WriteString(name + "\n")
	_ = f.Close()
}
