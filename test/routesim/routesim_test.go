package routesim

import (
	"math"
	"strings"
	"testing"
)

// Seeds are fixed: nothing here is left to chance.
func TestFleetIsAsTheTheorySays(t *testing.T) {
	res, err := Run(Fleet{Hosts: 1000, Streams: 50, Collectors: 200, Zipf: 1.1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Figures {
		t.Logf("%s: %.5g, theory %.5g ± %.2g", f.Name, f.Measured, f.Theory, f.Sigma)
		switch {
		case strings.Contains(f.Name, "max/mean") && f.Sigma == 0:
			// A bound on sums of few heavy keys: TestLoudKeysAreSpread.
		case f.Sigma == 0 && math.Abs(f.Measured-f.Theory) > 0.01*f.Theory, f.Sigma > 0 && math.Abs(f.Measured-f.Theory) > 3*f.Sigma:
			t.Errorf("%s: %v, theory %v ± %v", f.Name, f.Measured, f.Theory, f.Sigma)
		}
	}
}

func TestLoudKeysAreSpread(t *testing.T) {
	for _, streams := range []int{100, 1000} {
		worst, whole := 0.0, 0.0
		for seed := range uint64(20) {
			res, err := Run(Fleet{Hosts: 1, Streams: streams, Collectors: 8, Zipf: 1.1, Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range res.Figures {
				switch f.Name {
				case "Zipf on each host, split, max/mean":
					worst = max(worst, f.Measured)
				case "Zipf on each host, whole, max/mean":
					whole = max(whole, f.Measured)
				}
			}
		}
		t.Logf("%d keys: the worst of 20 seeds is %.2f, without splitting %.2f", streams, worst, whole)
		if worst > 1.3 {
			t.Errorf("%d keys: a collector gets %.2f times the mean", streams, worst)
		}
	}
}
