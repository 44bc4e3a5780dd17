// Package routesim runs the log plugin's routing over a fleet of hosts and
// compares what becomes of it with what the theory of rendezvous hashing says.
package routesim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/dockline/dockline/logdriver/route"
)

// Fleet says what is simulated. Every stream has a key of its own.
type Fleet struct {
	Hosts, Streams, Collectors int // Streams are per host
	Zipf                       float64
	Seed                       uint64
}

// Figure is one number of the simulation beside the theory's. Sigma is the
// standard deviation that the theory gives it, 0 where it gives none.
type Figure struct {
	Name                    string
	Measured, Theory, Sigma float64
}

// Load is the share of all bytes that each collector gets, largest first, over
// the mean.
type Load struct {
	Name  string
	Ratio []float64
}

// Result is what a simulation came to.
type Result struct {
	Figures []Figure
	Loads   []Load
}

type sim struct {
	Fleet
	nodes []route.Node
	keys  []string
	names map[string]int
}

// Run simulates.
func Run(f Fleet) (Result, error) {
	s := &sim{Fleet: f, names: map[string]int{}}
	for i := range f.Collectors {
		name := fmt.Sprintf("collector-%d.example:5170", i)
		s.nodes, s.names[name] = append(s.nodes, route.Node{Name: name, Weight: 1}), i
	}
	r := rand.New(rand.NewPCG(f.Seed, 0))
	for range f.Hosts * f.Streams {
		s.keys = append(s.keys, fmt.Sprintf("%016x%016x%016x%016x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()))
	}
	var res Result
	for _, step := range []func(*Result) error{s.counts, s.moves, s.loads} {
		if err := step(&res); err != nil {
			return Result{}, err
		}
	}
	return res, nil
}

// place returns the collector of every key.
func (s *sim) place(nodes []route.Node) ([]string, error) {
	t, err := route.New(nodes)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(s.keys))
	for i, k := range s.keys {
		out[i] = t.First(k)
	}
	return out, nil
}

// counts compares streams per collector with balls in bins.
func (s *sim) counts(res *Result) error {
	at, err := s.place(s.nodes)
	if err != nil {
		return err
	}
	count := make([]float64, s.Collectors)
	for _, name := range at {
		count[s.names[name]]++
	}
	n, p := float64(len(s.keys)), 1/float64(s.Collectors)
	var chi float64
	for _, c := range count {
		chi += (c - n*p) * (c - n*p) / (n * p)
	}
	dof := float64(s.Collectors - 1)
	// The largest of m normal variates lies near sqrt(2 ln m); its spread is that of Gumbel's law.
	m := math.Log(float64(s.Collectors))
	loc := math.Sqrt(2*m) - (math.Log(m)+math.Log(4*math.Pi))/(2*math.Sqrt(2*m))
	sd := math.Sqrt(n*p*(1-p)) / (n * p)
	res.Figures = append(res.Figures,
		Figure{"streams per collector, chi squared", chi, dof, math.Sqrt(2 * dof)},
		Figure{"streams per collector, max/mean", slices.Max(count) / (n * p), 1 + sd*(loc+0.5772/math.Sqrt(2*m)), sd * math.Pi / math.Sqrt(12*m)},
	)
	return nil
}

// moves compares how many keys move on each kind of change.
func (s *sim) moves(res *Result) error {
	before, err := s.place(s.nodes)
	if err != nil {
		return err
	}
	n, total := float64(len(s.keys)), float64(s.Collectors)
	newcomer := route.Node{Name: "newcomer.example:5170", Weight: 2}
	heavier := slices.Clone(s.nodes)
	heavier[0].Weight = 3
	for _, change := range []struct {
		name   string
		nodes  []route.Node
		theory float64                    // share of keys that move
		may    func(from, to string) bool // which moves there may be
	}{
		{"a collector of weight 2 joins, share moved", append(slices.Clone(s.nodes), newcomer), 2 / (total + 2),
			func(_, to string) bool { return to == newcomer.Name }},
		{"a collector leaves, share moved", s.nodes[1:], 1 / total,
			func(from, _ string) bool { return from == s.nodes[0].Name }},
		{"two leave, share moved", s.nodes[2:], 2 / total,
			func(from, _ string) bool { return from == s.nodes[0].Name || from == s.nodes[1].Name }},
		{"a weight goes from 1 to 3, share moved", heavier, 3/(total+2) - 1/total,
			func(_, to string) bool { return to == s.nodes[0].Name }},
		{"a collector leaves and returns, share moved", s.nodes, 0,
			func(string, string) bool { return false }},
	} {
		after, err := s.place(change.nodes)
		if err != nil {
			return err
		}
		moved := 0.0
		for i := range after {
			if after[i] != before[i] {
				moved++
				if !change.may(before[i], after[i]) {
					return fmt.Errorf("%s: key %s went from %s to %s", change.name, s.keys[i], before[i], after[i])
				}
			}
		}
		p := change.theory
		res.Figures = append(res.Figures, Figure{change.name, moved / n, p, math.Sqrt(p * (1 - p) / n)})
	}
	res.Figures = append(res.Figures, Figure{"hash modulo n, a collector leaves, share moved", s.modulo(), 1 - 1/total, 0})
	return nil
}

// modulo is what the hash over list positions does on the same change.
func (s *sim) modulo() float64 {
	r, moved := rand.New(rand.NewPCG(s.Seed, 1)), 0.0
	for range s.keys {
		if h := r.Uint64(); h%uint64(s.Collectors) != h%uint64(s.Collectors-1) {
			moved++
		}
	}
	return moved / float64(len(s.keys))
}

// splitShare is how heavy a key may be before it is split, as a part of the
// mean load of a collector.
const splitShare = 1.0 / 32

// loads gives streams byte rates by Zipf's law, in the whole fleet and on each
// host, and compares the collectors' loads with and without splitting.
func (s *sim) loads(res *Result) error {
	t, err := route.New(s.nodes)
	if err != nil {
		return err
	}
	fleet, host := make([]float64, len(s.keys)), make([]float64, len(s.keys))
	for i := range s.keys {
		fleet[i] = math.Pow(float64(i+1), -s.Zipf)
		host[i] = math.Pow(float64(i%s.Streams+1), -s.Zipf)
	}
	for _, l := range []struct {
		name  string
		rates []float64
	}{{"Zipf over the fleet", fleet}, {"Zipf on each host", host}} {
		whole := load(t, s.names, s.keys, l.rates, math.Inf(1))
		split := load(t, s.names, s.keys, l.rates, splitShare)
		total, squares := 0.0, 0.0
		for _, r := range l.rates {
			total += r
		}
		for _, r := range l.rates {
			squares += (r / total) * (r / total)
		}
		c := float64(s.Collectors)
		heaviest := l.rates[0] / total * c
		// Where one key outweighs all else, it is the maximum; elsewhere the sum of many is nearly normal.
		theory := max(heaviest, 1+math.Sqrt(squares*(c-1))*math.Sqrt(2*math.Log(c)))
		res.Figures = append(res.Figures,
			Figure{l.name + ", whole, max/mean", whole[0], theory, 0},
			Figure{l.name + ", split, max/mean", split[0], 1, 0})
		res.Loads = append(res.Loads, Load{l.name + ", whole", whole}, Load{l.name + ", split", split})
	}
	return nil
}

// load returns the load of each collector over the mean, largest first. A key
// heavier than above, a part of the mean, is split.
func load(t *route.Table, names map[string]int, keys []string, rates []float64, above float64) []float64 {
	total := 0.0
	for _, r := range rates {
		total += r
	}
	mean := total / float64(len(names))
	sum := make([]float64, len(names))
	var ranked []route.Ranked
	const timeSlices = 240
	for i, key := range keys {
		if rates[i] <= above*mean {
			sum[names[t.First(key)]] += rates[i]
			continue
		}
		ranked = t.Rank(key, ranked[:0])
		k := int(math.Ceil(rates[i] / (above * mean)))
		for slice := range uint64(timeSlices) {
			sum[names[ranked[route.Spread(key, ranked, k, slice)].Name]] += rates[i] / timeSlices
		}
	}
	for i := range sum {
		sum[i] /= mean
	}
	slices.Sort(sum)
	slices.Reverse(sum)
	return sum
}
