package network

import (
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/dockline/dockline/netdriver/kernel"
)

// firewall takes its time, so that a slow change can come after a newer one.
type firewall struct {
	*faulty
	mu   sync.Mutex // guards has
	has  []string
	slow int
}

func (f *firewall) SyncPass(want map[string]kernel.Pass, _ []string) error {
	for range f.slow {
		runtime.Gosched()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.has = slices.Sorted(maps.Keys(want))
	return nil
}

// A Join that was slow to look must not take away the rule of a network that was
// made meanwhile, nor leave that of one that was removed.
func TestTheFirewallHasWhatWasWantedLast(t *testing.T) {
	for round := range 100 {
		f := &firewall{faulty: newFaulty(), slow: round}
		f.all = map[string]Definition{}
		m, err := NewManager(f, f, "ours", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				m.mu.Lock()
				d := Definition{ID: fmt.Sprint("n", i), Mode: Bridge}
				m.all[d.ID] = d
				m.mu.Unlock()
				m.Pass()
			})
		}
		wg.Wait()
		if len(f.has) != len(m.all) {
			t.Fatalf("round %d: of %d networks %q pass", round, len(m.all), f.has)
		}
	}
}
