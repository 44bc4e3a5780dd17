// Package route ranks collectors for a key by weighted rendezvous hashing
// (Thaler and Ravishankar 1998; weights as in Schindelhain and Schomaker 2005):
// every collector draws an exponential variate for the key, seeded by key and
// collector name alone, divided by its weight; the smallest comes first.
//
// It follows that hosts with the same collectors agree without talking, that a
// collector which leaves moves only its own keys, that one of weight w which
// joins takes a share w/ΣW of all keys and moves no other, and that the order
// of the list does not matter.
//
// The mapping is a promise: golden vectors in the tests pin it for ever. It is
// therefore computed in integers only, which give the same result on every
// machine and with every compiler; floating point does not.
package route

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// MaxWeight bounds a collector's weight, so that scores compare without overflow.
const MaxWeight = 1 << 20

// Node is one collector as routing sees it. Its name is its identity: the
// same name is the same collector, whatever its address.
type Node struct {
	Name   string
	Weight uint32 // 0: takes no keys
}

// Table ranks a fixed set of nodes. It is immutable.
type Table struct {
	nodes  []Node // by name
	groups []group
}

// group is the nodes of one weight above 0. Among them the larger draw is the
// better one, so that the logarithm need not be taken of each.
type group struct {
	weight uint64
	nodes  []int    // indices of Table.nodes, by name
	seeds  []uint64 // of nodes
}

// ErrNoNodes means that there is nothing to rank.
var ErrNoNodes = errors.New("no collectors")

// New returns a table of the nodes, in any order. Names must be unique.
func New(nodes []Node) (*Table, error) {
	if len(nodes) == 0 {
		return nil, ErrNoNodes
	}
	t := &Table{nodes: slices.Clone(nodes)}
	slices.SortFunc(t.nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	for i, n := range t.nodes {
		if n.Name == "" {
			return nil, errors.New("a collector has no name")
		}
		if i > 0 && n.Name == t.nodes[i-1].Name {
			return nil, fmt.Errorf("two collectors are named %q", n.Name)
		}
		if n.Weight > MaxWeight {
			return nil, fmt.Errorf("collector %q: weight %d is not in 0..%d", n.Name, n.Weight, MaxWeight)
		}
	}
	return build(t.nodes), nil
}

// build makes a table of nodes that are in order.
func build(nodes []Node) *Table {
	t := &Table{nodes: nodes}
	byWeight := map[uint32]int{}
	for i, n := range t.nodes {
		if n.Weight == 0 {
			continue
		}
		at, ok := byWeight[n.Weight]
		if !ok {
			at = len(t.groups)
			byWeight[n.Weight] = at
			t.groups = append(t.groups, group{weight: uint64(n.Weight)})
		}
		g := &t.groups[at]
		g.nodes = append(g.nodes, i)
		g.seeds = append(g.seeds, xxhash.Sum64String(n.Name))
	}
	return t
}

// Only returns the table of those of its nodes that names names. Their order for
// a key is the same: a node that is away is as if it were not listed.
func (t *Table) Only(names []string) *Table {
	var nodes []Node
	for _, n := range t.nodes {
		if slices.Contains(names, n.Name) {
			nodes = append(nodes, n)
		}
	}
	return build(nodes)
}

// Ranked is one place of a ranking.
type Ranked struct {
	Name  string
	draw  uint64 // the exponential variate, unscaled
	scale uint64 // the weight it is divided by
}

// Rank appends the names of all nodes with a weight to dst, best first.
func (t *Table) Rank(key string, dst []Ranked) []Ranked {
	h := xxhash.Sum64String(key)
	from := len(dst)
	for _, g := range t.groups {
		for i, seed := range g.seeds {
			dst = append(dst, Ranked{t.nodes[g.nodes[i]].Name, negLog2(mix(h, seed)), g.weight})
		}
	}
	slices.SortFunc(dst[from:], compare)
	return dst
}

// First returns the name that Rank would put first, "" where no node has a
// weight. It does not allocate.
func (t *Table) First(key string) string { return t.first(xxhash.Sum64String(key)) }

// FirstBytes is First for a key that is no string.
func (t *Table) FirstBytes(key []byte) string { return t.first(xxhash.Sum64(key)) }

func (t *Table) first(h uint64) string {
	best := Ranked{}
	for i := range t.groups {
		g := &t.groups[i]
		r := Ranked{t.nodes[g.nodes[0]].Name, 0, g.weight}
		top := mix(h, g.seeds[0])
		for j, seed := range g.seeds[1:] {
			x := mix(h, seed)
			if x > top && x-top > top>>sameBits {
				top, r.Name = x, t.nodes[g.nodes[j+1]].Name
			} else if x >= top-top>>sameBits {
				// Both may have the same logarithm, and then the name decides.
				if negLog2(x) < negLog2(top) {
					top, r.Name = x, t.nodes[g.nodes[j+1]].Name
				}
			}
		}
		r.draw = negLog2(top)
		if best.Name == "" || compare(r, best) < 0 {
			best = r
		}
	}
	return best.Name
}

// sameBits is such that numbers which differ by more than their 2^sameBits-th
// part differ in negLog2.
const sameBits = fracBits - 4

// Spread picks one of the first k places of a key's ranking for a time slice,
// in proportion to their weights: over many slices each place gets its share,
// and over few it gets nearly that, because the picks step through the range by
// the golden ratio. It is how a key too heavy for one collector is split. Hosts
// that number their slices alike agree.
func Spread(key string, ranked []Ranked, k int, slice uint64) int {
	ranked = ranked[:min(max(k, 1), len(ranked))]
	total := uint64(0)
	for _, r := range ranked {
		total += r.scale
	}
	at, _ := bits.Mul64(xxhash.Sum64String(key)+slice*0x9e3779b97f4a7c15, total)
	for i, r := range ranked {
		if at < r.scale {
			return i
		}
		at -= r.scale
	}
	return 0 // of an empty ranking
}

// compare orders by draw/scale, then, for the one case in 2^40, by name.
func compare(a, b Ranked) int {
	ah, al := bits.Mul64(a.draw, b.scale)
	bh, bl := bits.Mul64(b.draw, a.scale)
	return cmp.Or(cmp.Compare(ah, bh), cmp.Compare(al, bl), cmp.Compare(a.Name, b.Name))
}

// mix joins the hashes of key and node into 64 bits that look independent for
// every pair: the finalizer of splitmix64 (Steele, Lea, Flood 2014) over their
// combination, in which the odd factor keeps key and node from cancelling out.
func mix(key, node uint64) uint64 {
	x := key ^ node*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

const (
	fracBits  = 40 // of the fixed-point logarithm
	tableBits = 10
)

// log2Table holds log2(1 + i/1024) in fixed point, for interpolation.
var log2Table = makeLog2Table()

// negLog2 returns -log2((x+1)/2^64) in fixed point with fracBits bits behind
// the point, as close as a table of 1024 steps interpolates (below 2^-22).
func negLog2(x uint64) uint64 {
	if x == 1<<64-1 {
		return 0
	}
	x++
	whole := uint(bits.Len64(x) - 1)
	mantissa := x << (63 - whole) << 1 // the bits behind the leading one
	i := mantissa >> (64 - tableBits)
	rest := mantissa << tableBits >> 32 // 32 bits
	lo, hi := log2Table[i], log2Table[i+1]
	frac := lo + (hi-lo)*rest>>32
	return (64-uint64(whole))<<fracBits - frac
}

// makeLog2Table computes binary logarithms bit by bit: squaring a number in
// [1,2) and looking whether it passed 2 gives the next bit behind the point.
func makeLog2Table() *[1<<tableBits + 1]uint64 {
	var t [1<<tableBits + 1]uint64
	for i := range t {
		if i == 1<<tableBits {
			t[i] = 1 << fracBits
			break
		}
		x := uint64(1<<tableBits+i) << (63 - tableBits) // 1.i with 63 bits behind the point
		for bit := fracBits - 1; bit >= 0; bit-- {
			hi, _ := bits.Mul64(x, x) // 126 bits behind the point, hi has 62
			if hi >= 1<<63 {          // at least 2
				t[i] |= 1 << bit
				x = hi
			} else {
				x = hi << 1
			}
		}
	}
	return &t
}
