package readlogs

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestSinceAndUntilWithAClockThatWasSet: what is given out is what has a time
// between the two, wherever the clock went.
func TestSinceAndUntilWithAClockThatWasSet(t *testing.T) {
	for name, jump := range map[string]time.Duration{"back": -50 * time.Second, "forward": 300 * time.Second, "far back": -900 * time.Second} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, 300, 1<<40)
			for i := range 300 {
				switch i {
				case 100:
					f.now = f.now.Add(jump)
				case 200: // and set right again
					f.now = f.now.Add(-jump)
				}
				f.write(line("stdout", fmt.Sprint(i)))
			}
			all := f.read(Query{Tail: -1})
			for _, bounds := range [][2]int64{{1000, 1060}, {1060, 1120}, {1120, 1290}, {50, 250}, {1350, 1450}, {0, 2000}} {
				got := f.read(Query{Tail: -1, Since: time.Unix(bounds[0], 0), Until: time.Unix(bounds[1], 0)})
				want := slices.DeleteFunc(slices.Clone(all), func(l string) bool {
					var at int64
					if _, err := fmt.Sscan(l, &at); err != nil {
						t.Fatal(err)
					}
					return at < bounds[0] || at > bounds[1]
				})
				if !slices.Equal(got, want) {
					t.Errorf("from %d to %d: %d records, want %d", bounds[0], bounds[1], len(got), len(want))
				}
			}
		})
	}
}
