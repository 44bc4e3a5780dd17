package wire

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

const timeout = 10 * time.Second

func TestBatchesCountWhenCommittedAndDone(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(l *Ledger)
		want uint64
	}{
		{"nothing", func(*Ledger) {}, 0},
		{"begun", func(l *Ledger) { _ = l.Begin(10); l.Advance(10) }, 0},
		{"committed", func(l *Ledger) { _ = l.Begin(10); _ = l.Commit() }, 0},
		{"in part", func(l *Ledger) { _ = l.Begin(10); _ = l.Commit(); l.Advance(9) }, 0},
		{"whole", func(l *Ledger) { _ = l.Begin(10); _ = l.Commit(); l.Advance(10) }, 1},
		{"done before it is committed", func(l *Ledger) { _ = l.Begin(10); l.Advance(10); _ = l.Commit() }, 1},
		{"never back", func(l *Ledger) { _ = l.Begin(10); _ = l.Commit(); l.Advance(10); l.Advance(3) }, 1},
		{"two at once", func(l *Ledger) {
			for range 3 {
				_ = l.Begin(10)
				_ = l.Commit()
			}
			l.Advance(29)
		}, 2},
		{"written when it had failed already", func(l *Ledger) { l.Fail(errors.New("end")); _ = l.Begin(10); _ = l.Commit() }, 0},
		{"failed while it was written", func(l *Ledger) {
			_ = l.Begin(10)
			l.Advance(10)
			l.Fail(errors.New("end"))
			_ = l.Begin(10)
			_ = l.Commit()
		}, 0},
		{"failed when it was written and done", func(l *Ledger) { _ = l.Begin(10); l.Advance(10); l.Fail(errors.New("end")); _ = l.Commit() }, 1},
		{"empty", func(l *Ledger) { _ = l.Begin(0); _ = l.Commit() }, 1},
	} {
		l := NewLedger(timeout)
		tc.do(l)
		l.Fail(errors.New("end"))
		if got, err := l.Wait(t.Context(), 0, nil); got != tc.want || err == nil {
			t.Errorf("%s: %d, %v; want %d", tc.name, got, err, tc.want)
		}
	}
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, start := NewLedger(timeout), time.Now()
		time.AfterFunc(3*time.Hour, func() { _ = l.Begin(10); _ = l.Commit() }) // idle until then is fine
		time.AfterFunc(3*time.Hour+6*time.Second, func() { l.Advance(1) })
		acked, err := l.Wait(t.Context(), 0, nil)
		var stalled *StalledError
		if acked != 0 || !errors.As(err, &stalled) || stalled.For != timeout {
			t.Errorf("%d, %v", acked, err)
		}
		if took := time.Since(start); took != 3*time.Hour+16*time.Second {
			t.Errorf("after %v", took)
		}
		if err := l.Begin(1); !errors.As(err, &stalled) {
			t.Errorf("begin after that: %v", err)
		}
	})
}

// TestPolling: as long as nothing is outstanding nobody measures, then often,
// then less often, and often again when something comes of it.
func TestPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, start := NewLedger(timeout), time.Now()
		var at []time.Duration
		measure := func() error {
			at = append(at, time.Since(start)-time.Minute)
			if len(at) == 4 {
				l.Advance(5)
			}
			if len(at) == 6 {
				l.Advance(10)
			}
			return nil
		}
		time.AfterFunc(time.Minute, func() { _ = l.Begin(10); _ = l.Commit() })
		if acked, err := l.Wait(t.Context(), 0, measure); acked != 1 || err != nil {
			t.Fatalf("%d, %v", acked, err)
		}
		want := []int{0, 1, 3, 7, 8, 10}
		for i := range want {
			if len(at) != len(want) || at[i] != time.Duration(want[i])*time.Millisecond {
				t.Fatalf("measured at %v, want %v ms", at, want)
			}
		}
	})
}

func TestMeasureFails(t *testing.T) {
	l, broken := NewLedger(timeout), errors.New("broken")
	if err := l.Begin(1); err != nil {
		t.Fatal(err)
	}
	calls := 0
	for range 2 {
		if _, err := l.Wait(t.Context(), 0, func() error { calls++; return broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	if calls != 1 {
		t.Errorf("measured %d times", calls)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := NewLedger(timeout).Wait(ctx, 0, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
