package route

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func table(t testing.TB, nodes ...Node) *Table {
	t.Helper()
	tab, err := New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func names(r []Ranked) []string {
	var out []string
	for _, n := range r {
		out = append(out, n.Name)
	}
	return out
}

// TestGoldenVectors pins the mapping for ever: a change here moves the streams
// of everyone who upgrades. Add vectors, never change one.
func TestGoldenVectors(t *testing.T) {
	tab := table(t, Node{"a.example:5170", 1}, Node{"b.example:5170", 1}, Node{"c.example:5170", 2}, Node{"d.example:5170", 0})
	for key, want := range golden {
		if got := names(tab.Rank(key, nil)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

func TestNegLog2IsALogarithm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		x := r.Uint64() >> r.IntN(64)
		got := float64(negLog2(x)) / (1 << fracBits)
		want := -math.Log2((float64(x) + 1) / (1 << 64))
		if math.Abs(got-want) > 1e-6 {
			t.Fatalf("negLog2(%#x) = %v, want %v", x, got, want)
		}
	}
	if negLog2(math.MaxUint64) != 0 || negLog2(0) != 64<<fracBits {
		t.Error("ends are off")
	}
}

func TestOrderOfTheListDoesNotMatter(t *testing.T) {
	nodes := []Node{{"a", 1}, {"b", 3}, {"c", 2}, {"d", 1}}
	tab := table(t, nodes...)
	slices.Reverse(nodes)
	rev := table(t, nodes...)
	for i := range 1000 {
		k := fmt.Sprint(i)
		if a, b := names(tab.Rank(k, nil)), names(rev.Rank(k, nil)); !slices.Equal(a, b) {
			t.Fatalf("%s: %v, %v", k, a, b)
		}
		if names(tab.Rank(k, nil))[0] != tab.First(k) {
			t.Fatalf("%s: First and Rank differ", k)
		}
	}
}

// First does not take every logarithm, Rank does: they agree, also where draws
// are as good as equal.
func TestFirstIsTheFirstOfTheRanking(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var nodes []Node
		for i := range 1 + r.IntN(40) {
			nodes = append(nodes, Node{fmt.Sprint("n", i), uint32(r.IntN(4))})
		}
		tab := table(t, nodes...)
		for i := range 100 {
			key := fmt.Sprint("key-", i)
			want := ""
			if ranked := tab.Rank(key, nil); len(ranked) > 0 {
				want = ranked[0].Name
			}
			if got := tab.First(key); got != want || tab.FirstBytes([]byte(key)) != want {
				t.Fatalf("%v: %s goes to %q, ranked first is %q", nodes, key, got, want)
			}
		}
	}
	for range 100000 {
		x := (r.Uint64() >> 1) >> r.IntN(20)
		if y := x + x>>sameBits + 1; negLog2(y) >= negLog2(x) {
			t.Fatalf("%d and %d have the same logarithm", x, y)
		}
	}
}

func TestSpreadFollowsWeights(t *testing.T) {
	tab := table(t, Node{"a", 1}, Node{"b", 2}, Node{"c", 5}, Node{"d", 4})
	for _, k := range []int{0, 1, 2, 3, 4, 9} {
		for key := range 20 {
			key := fmt.Sprint("heavy-", key)
			ranked := tab.Rank(key, nil)
			n := min(max(k, 1), len(ranked))
			var total, slices uint64 = 0, 240
			for _, r := range ranked[:n] {
				total += r.scale
			}
			count := make([]float64, len(ranked))
			for slice := range slices {
				count[Spread(key, ranked, k, 1e6+slice)]++
			}
			for i, got := range count {
				want := 0.0
				if i < n {
					want = float64(slices) * float64(ranked[i].scale) / float64(total)
				}
				if math.Abs(got-want) > 4 {
					t.Errorf("%s, %d places: %s has %v slices, its share are %.1f", key, k, ranked[i].Name, got, want)
				}
			}
		}
	}
	if Spread("k", nil, 3, 7) != 0 {
		t.Error("an empty ranking has another place than 0")
	}
}

func TestSharesFollowWeights(t *testing.T) {
	tab := table(t, Node{"a", 1}, Node{"b", 2}, Node{"c", 5})
	const n = 80000
	count := map[string]int{}
	for i := range n {
		count[tab.First(fmt.Sprint("key-", i))]++
	}
	for _, node := range tab.nodes {
		p := float64(node.Weight) / 8
		sigma := math.Sqrt(n * p * (1 - p))
		if d := math.Abs(float64(count[node.Name]) - n*p); d > 4*sigma {
			t.Errorf("%s: %d keys, want %.0f ± %.0f", node.Name, count[node.Name], n*p, 4*sigma)
		}
	}
}

// Those that are away, one or two, are as if they had never been listed.
func TestOnlyTheKeysOfThoseThatLeaveMove(t *testing.T) {
	nodes := []Node{{"a", 1}, {"b", 2}, {"c", 1}, {"d", 3}, {"e", 1}}
	all := table(t, nodes...)
	for _, away := range [][]string{{"c"}, {"d"}, {"a", "d"}, {"c", "e"}} {
		gone := func(n string) bool { return slices.Contains(away, n) }
		without := table(t, slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return gone(n.Name) })...)
		for i := range 20000 {
			k := fmt.Sprint(i)
			ranked := names(all.Rank(k, nil))
			rest := slices.DeleteFunc(slices.Clone(ranked), gone)
			if got := names(without.Rank(k, nil)); !slices.Equal(got, rest) {
				t.Fatalf("%s: without %v, %v became %v", k, away, ranked, got)
			}
		}
	}
}

// A node that joins takes its share of the keys, and no other key moves.
func TestOnlyKeysOfTheOneThatJoinsMove(t *testing.T) {
	const n = 100000
	old := []Node{{"a", 1}, {"b", 2}, {"c", 1}, {"d", 3}, {"e", 1}}
	before := table(t, old...)
	for _, w := range []uint32{1, 2, 5, 40} {
		after, moved := table(t, append(slices.Clone(old), Node{"new", w})...), 0
		for i := range n {
			k := fmt.Sprint("key-", i)
			switch was, is := before.First(k), after.First(k); {
			case is == "new":
				moved++
			case is != was:
				t.Fatalf("weight %d: %s moves from %s to %s", w, k, was, is)
			}
		}
		p := float64(w) / float64(8+w)
		if sigma := math.Sqrt(n * p * (1 - p)); math.Abs(float64(moved)-n*p) > 3*sigma {
			t.Errorf("weight %d: %d keys moved, want %.0f ± %.0f", w, moved, n*p, 3*sigma)
		} else {
			t.Logf("weight %d: %d keys moved, %.1f sigma from %.0f", w, moved, (float64(moved)-n*p)/sigma, n*p)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, nodes := range map[string][]Node{
		"none":      {},
		"twice":     {{"a", 1}, {"b", 1}, {"a", 2}},
		"nameless":  {{"", 1}},
		"too heavy": {{"a", MaxWeight + 1}},
	} {
		if _, err := New(nodes); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if got := table(t, Node{"a", 0}).First("k"); got != "" {
		t.Errorf("a node of weight 0 took a key: %q", got)
	}
}

func BenchmarkFirst(b *testing.B) {
	for _, n := range []int{3, 10, 200} {
		var nodes []Node
		for i := range n {
			nodes = append(nodes, Node{fmt.Sprintf("collector-%d.example:5170", i), 1})
		}
		tab := table(b, nodes...)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tab.First("4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa0123")
			}
		})
	}
}
