package witness

import (
	"fmt"
	"testing"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/test/harness/collector"
)

func TestRepeatedAndReordered(t *testing.T) {
	b := NewBook()
	bring := func(offsets ...int) {
		for _, at := range offsets {
			b.Record(collector.Record{Collector: "c", ID: fmt.Sprintf("s-%x", record.ID(uint64(at), 0)), Container: "w", Line: fmt.Appendf(nil, "seq=%d of=9 ts=%d x", at/10, at)}) //nolint:gosec // not negative
		}
	}
	bring(0, 10, 20)
	at := b.Account("w")
	if at.Records != 3 || at.Stream != "s" || at.Newest.UnixNano() != 20 {
		t.Errorf("the account is %+v", at)
	}
	bring(10, 20, 30)
	for before, want := range map[uint64]int{0: 0, 10: 0, 20: 1, 30: 2} {
		if n := b.Repeated("w", at, before); n != want {
			t.Errorf("before %d: %d are repeated, not %d", before, n, want)
		}
	}
	if dup, re := b.accounts["w"].order(); dup != 2 || re != 0 {
		t.Errorf("%d repeated, %d out of order", dup, re)
	}
	bring(50, 40)
	if _, re := b.accounts["w"].order(); re != 1 {
		t.Errorf("%d out of order, not 1", re)
	}
}
