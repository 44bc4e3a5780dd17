package ship

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// later is why a collector takes nothing for now, and for how long.
type later struct{ after time.Duration }

func (e later) Error() string             { return "come again" }
func (e later) RetryAfter() time.Duration { return e.after }

func TestAsked(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want time.Duration
	}{
		{nil, 0}, {errors.New("down"), 0}, {fmt.Errorf("send: %w", later{7 * time.Second}), 7 * time.Second}, {later{time.Hour}, maxAsked},
	} {
		if got := asked(tc.err); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.err, got, tc.want)
		}
	}
}

// tired is a collector that notes when it is dialed, and asks to be left alone.
type tired struct {
	*peer
	dialed *[]time.Time
	after  time.Duration
}

func (p tired) Dial(context.Context) (Conn, error) {
	*p.dialed = append(*p.dialed, time.Now())
	return nil, fmt.Errorf("dial: %w", later{p.after})
}

// A collector that says for how long it wants to be left alone, is.
func TestRetryAfterIsObeyed(t *testing.T) {
	for _, after := range []time.Duration{0, 40 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var dialed []time.Time
			s := New(quiet)
			p := poolOf(nil, "a")
			p.Collectors = []Collector{{Name: "a", Sink: tired{&peer{}, &dialed, after}}}
			m := newMemory()
			m.write(frames(t, 0, 1))
			add(t, s, m, "s", p)
			time.Sleep(20 * time.Minute)
			s.Close()
			if len(dialed) < 3 {
				t.Fatalf("dialed %d times", len(dialed))
			}
			for i := range dialed[1:] {
				if got := dialed[i+1].Sub(dialed[i]); got < min(after, maxAsked) || got > max(min(after, maxAsked), 2*maxBackOff) {
					t.Errorf("asked for %v, it took %v", after, got)
				}
			}
		})
	}
}
