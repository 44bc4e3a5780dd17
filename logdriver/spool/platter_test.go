package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// platter is what a power cut would leave of a directory: it is told of every
// change, and knows which of them a sync has made durable. Of the others a cut
// leaves some and not others: of a write all, nothing, its beginning, or zeros;
// of the names in a directory any of the changes, or those up to some moment.
type platter struct {
	t    *testing.T
	root string
	dir  *node
}

// node is a file or a directory.
type node struct {
	names   map[string]*node // a directory's, as they are now; nil for a file
	durable map[string]*node
	moves   []move // of names, since the last sync

	bytes  []byte // a file's, as a power cut would leave them at least
	writes []extent
}

// move is a change of a directory's names. It is atomic.
type move struct {
	from, to string // one of the two may be ""
	node     *node
}

// extent is a write, or a truncation to nothing.
type extent struct {
	at   int64
	data []byte // nil: truncation
}

// newPlatter takes what lies below root as durable.
func newPlatter(t *testing.T, root string) *platter {
	return &platter{t: t, root: root, dir: load(t, root)}
}

func load(t *testing.T, path string) *node {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !info.IsDir() {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return &node{bytes: data}
	}
	n := newDir()
	left, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		n.names[e.Name()] = load(t, filepath.Join(path, e.Name()))
		n.durable[e.Name()] = n.names[e.Name()]
	}
	return n
}

func newDir() *node { return &node{names: map[string]*node{}, durable: map[string]*node{}} }

// at returns the node of a path and the directory that it is in.
func (p *platter) at(path string) (dir, n *node, name string) {
	rel, err := filepath.Rel(p.root, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		p.t.Fatalf("%s is outside of %s", path, p.root)
	}
	n = p.dir
	for part := range strings.SplitSeq(filepath.Clean(rel), "/") {
		if part == "." {
			continue
		}
		if n == nil || n.names == nil {
			p.t.Fatalf("%s: no such directory", path)
		}
		dir, name = n, part
		n = n.names[part]
	}
	return dir, n, name
}

// made notes a change of the spool's.
func (p *platter) made(c change) {
	dir, n, name := p.at(c.path)
	switch c.op {
	case "mkdir":
		dir.move(move{to: name, node: newDir()})
	case "create":
		dir.move(move{to: name, node: &node{}})
	case "remove":
		dir.move(move{from: name, node: n})
	case "rename":
		dir.move(move{from: name, to: filepath.Base(c.to), node: n})
	case "truncate":
		n.writes = append(n.writes, extent{})
	case "write":
		now, err := os.ReadFile(c.path)
		if err != nil || int64(len(now)) < c.at+c.n {
			p.t.Fatalf("%+v: the file has %d bytes, %v", c, len(now), err)
		}
		n.writes = append(n.writes, extent{c.at, append([]byte{}, now[c.at:c.at+c.n]...)})
	case "sync":
		n.sync()
	default:
		p.t.Fatalf("the platter does not know %+v", c)
	}
}

func (n *node) move(m move) {
	n.moves = append(n.moves, m)
	m.apply(n.names)
}

func (m move) apply(names map[string]*node) {
	if m.from != "" {
		delete(names, m.from)
	}
	if m.to != "" {
		names[m.to] = m.node
	}
}

func (n *node) sync() {
	if n.names == nil {
		n.bytes = n.content(func(e extent) []byte { return e.data })
		n.writes = nil
		return
	}
	for _, m := range n.moves {
		m.apply(n.durable)
	}
	n.moves = nil
}

// content is what the file holds if of each write that is left what left
// returns; nil for nothing.
func (n *node) content(left func(extent) []byte) []byte {
	b := slices.Clone(n.bytes)
	for _, e := range n.writes {
		if e.data == nil {
			if left(extent{data: []byte{}}) != nil {
				b = nil
			}
			continue
		}
		data := left(e)
		if missing := e.at + int64(len(data)) - int64(len(b)); missing > 0 && len(data) > 0 {
			b = append(b, make([]byte, missing)...)
		}
		copy(b[min(e.at, int64(len(b))):], data)
	}
	return b
}

// fate decides what a power cut leaves of what was not synced.
type fate struct {
	name string
	data func(r *rand.Rand, e extent) []byte
	move func(r *rand.Rand) bool // whether a change of names is left
	stop bool                    // those behind one that is not left are not left either
}

func all(_ *rand.Rand, e extent) []byte    { return e.data }
func nothing(*rand.Rand, extent) []byte    { return nil }
func zeros(_ *rand.Rand, e extent) []byte  { return make([]byte, len(e.data)) }
func begins(r *rand.Rand, e extent) []byte { return e.data[:r.IntN(len(e.data)+1)] }
func always(*rand.Rand) bool               { return true }
func never(*rand.Rand) bool                { return false }
func sometimes(r *rand.Rand) bool          { return r.IntN(4) > 0 }
func anyData(r *rand.Rand, e extent) []byte {
	return []func(*rand.Rand, extent) []byte{all, nothing, zeros, begins, all}[r.IntN(5)](r, e)
}

var fates = []fate{
	{"nothing that was not synced", nothing, never, true},
	{"names without their bytes", nothing, always, false},
	{"names with zeros", zeros, always, false},
	{"bytes torn, names up to some moment", begins, sometimes, true},
	{"anything", anyData, sometimes, false},
	{"anything, names up to some moment", anyData, sometimes, true},
}

// cut puts what a power cut leaves into an empty directory.
func (p *platter) cut(f fate, r *rand.Rand, into string) {
	if err := p.dir.leave(f, r, into); err != nil {
		p.t.Fatal(err)
	}
}

func (n *node) leave(f fate, r *rand.Rand, path string) error {
	if n.names == nil {
		return os.WriteFile(path, n.content(func(e extent) []byte { return f.data(r, e) }), 0o600)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	names := map[string]*node{}
	for k, v := range n.durable {
		names[k] = v
	}
	for _, m := range n.moves {
		if f.move(r) {
			m.apply(names)
		} else if f.stop {
			break
		}
	}
	keys := make([]string, 0, len(names))
	for k := range names {
		keys = append(keys, k)
	}
	slices.Sort(keys) // so that the same seed gives the same
	for _, k := range keys {
		if err := names[k].leave(f, r, filepath.Join(path, k)); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}
