package wire

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
)

// TestRefusals: batches end out of order, and what each refused is told once, when
// it is acknowledged.
func TestRefusals(t *testing.T) {
	var r Refusals
	r.Add(2, ship.Refusal{ID: "b1"}, ship.Refusal{ID: "b2"})
	r.Add(1, ship.Refusal{ID: "a"})
	r.Add(3)
	for acked, want := range [][]string{nil, {"a"}, {"b1", "b2"}, nil} {
		r.Tell(uint64(acked))
		var got []string
		for _, one := range r.Refused() {
			got = append(got, one.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d batches acknowledged: %q, want %q", acked, got, want)
		}
	}
}

func TestHandover(t *testing.T) {
	l := NewLedger(time.Minute)
	h := NewHandover[[]byte](l, 1)
	b := h.Spare()
	if err := errors.Join(l.Begin(1), h.Put(t.Context(), b)); err != nil || h.Next() != b {
		t.Fatalf("another batch, or %v", err)
	}
	h.Keep(b, maxReuse)
	if h.Spare() != b {
		t.Error("it is not used again")
	}
	h.Keep(b, maxReuse+1)
	if h.Spare() == b {
		t.Error("it is used again, as large as it is")
	}
	bad := errors.New("bad")
	h.Fail(bad)
	if h.Next() != nil || h.Context().Err() == nil || !errors.Is(l.Err(), bad) {
		t.Errorf("goes on; %v", l.Err())
	}
}

// TestHandoverEnds: nobody delivers, and who sends does not wait for ever.
func TestHandoverEnds(t *testing.T) {
	l := NewLedger(time.Minute)
	h := NewHandover[[]byte](l, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Put(ctx, h.Spare()); !errors.Is(err, context.Canceled) || !errors.Is(l.Err(), context.Canceled) {
		t.Errorf("%v, %v", err, l.Err())
	}
	h.Fail(errors.New("too late"))
	if err := h.Put(t.Context(), h.Spare()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
