package stamp

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func TestStamps(t *testing.T) {
	c := New()
	for _, tc := range []struct {
		ns          int64
		micro, nano string
	}{
		{0, "1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000000000Z"},
		{1, "1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000000001Z"},
		{999_999_999, "1970-01-01T00:00:00.999999Z", "1970-01-01T00:00:00.999999999Z"},
		{1_000_000_000, "1970-01-01T00:00:01.000000Z", "1970-01-01T00:00:01.000000000Z"},
		{-1, "1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999999Z"},
		{-1_000_000_000, "1969-12-31T23:59:59.000000Z", "1969-12-31T23:59:59.000000000Z"},
		{math.MaxInt64, "2262-04-11T23:47:16.854775Z", "2262-04-11T23:47:16.854775807Z"},
		{math.MinInt64, "1677-09-21T00:12:43.145224Z", "1677-09-21T00:12:43.145224192Z"},
		{0, "1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000000000Z"}, // back again
	} {
		if got := string(c.AppendMicro(nil, tc.ns)); got != tc.micro {
			t.Errorf("%d: %s, want %s", tc.ns, got, tc.micro)
		}
		if got := string(c.AppendNano([]byte("x"), tc.ns)); got != "x"+tc.nano {
			t.Errorf("%d: %s, want %s", tc.ns, got, tc.nano)
		}
	}
}

func TestOffset(t *testing.T) {
	for _, n := range []uint64{0, 1, 0xdeadbeef, math.MaxUint64} {
		if got, want := string(AppendOffset(nil, n)), fmt.Sprintf("%016x", n); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func FuzzNano(f *testing.F) {
	f.Add(int64(0), int64(1))
	f.Add(int64(-1), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, first, second int64) {
		c := New()
		for _, ns := range []int64{first, second} {
			if got, want := string(c.AppendNano(nil, ns)), time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z"); got != want {
				t.Errorf("%d: %s, want %s", ns, got, want)
			}
		}
	})
}
