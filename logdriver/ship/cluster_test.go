package ship

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// placing is a cluster's sink: it notes which of its places records go to.
type placing struct {
	*peer
	mu     sync.Mutex // guards places
	places map[string]map[int]int
}

func (p *placing) Prepare(m *Meta) Template {
	return &placed{template: template(m.Stream), owner: p, stream: m.Stream}
}

type placed struct {
	template
	owner  *placing
	stream string
	place  int
}

func (t *placed) Spread(place int) { t.place = place }

func (t *placed) Append(dst []byte, r *Record) []byte {
	t.owner.mu.Lock()
	defer t.owner.mu.Unlock()
	if t.owner.places[t.stream] == nil {
		t.owner.places[t.stream] = map[int]int{}
	}
	t.owner.places[t.stream][t.place]++
	return t.template.Append(dst, r)
}

// A cluster spreads a heavy key over its own places, one after the other.
func TestAClusterSpreadsAHeavyKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &placing{peer: &peer{}, places: map[string]map[int]int{}}
		pool := membersOf(map[string]*peer{"kafka": sink.peer}, nil)
		pool.Collectors[0].Sink, pool.Places = sink, 64
		s := New(quiet)
		defer s.Close()
		loud, small := newMemory(), newMemory()
		s.Add(loud, &Meta{Stream: "loud"}, pool, Key{Value: "loud", SplitAbove: 800})
		s.Add(small, &Meta{Stream: "small"}, pool, Key{Value: "small", SplitAbove: 800})
		const rounds, each = 1000, 10 // about 2,200 bytes a second
		for n := range rounds {
			loud.write(frames(t, n*each, each))
			if n%10 == 0 {
				small.write(frames(t, n/10, 1))
			}
			time.Sleep(100 * time.Millisecond) // in the bubble's time: it is the rate
		}
		time.Sleep(time.Second) // in the bubble's time: what is under way arrives
		for _, p := range s.Places() {
			if want := map[string]int{"loud": 3, "small": 1}[p.Stream]; p.Split != want || p.Collector != "kafka" {
				t.Errorf("%s is spread over %d places of %s, not %d", p.Stream, p.Split, p.Collector, want)
			}
		}
		if twice := check(t, sink.received(), "loud", rounds*each); twice > 0 {
			t.Errorf("%d records came twice", twice)
		}
		sink.mu.Lock()
		defer sink.mu.Unlock()
		if got := sink.places["loud"]; len(got) != 3 || got[1] < rounds*each/6 || got[2] < rounds*each/6 {
			t.Errorf("the loud one's places are %v", got)
		}
		if got := sink.places["small"]; len(got) != 1 || got[0] != rounds/10 {
			t.Errorf("the small one's places are %v", got)
		}
	})
}
