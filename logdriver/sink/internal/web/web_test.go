package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-1": 0, "1.5": 0, "soon": 0, " 7": 0, "99999999999999999999": 0, "2147483647": 2147483647 * time.Second, "2147483648": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0, "Friday, 02-Jan-26 03:05:05 GMT": time.Minute, "Fri Jan  2 03:04:06 2026": time.Second,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// What an answer says is told with what it wants, and of the statuses that are no
// fault of what was sent each counts as what it is.
func TestOutcome(t *testing.T) {
	for _, tc := range []struct {
		status  int
		want    outcome
		busy    bool
		trouble bool
		after   time.Duration
	}{
		{200, taken, false, false, 0}, {204, taken, false, false, 0},
		{400, refused, false, false, 0}, {413, refused, false, false, 0}, {422, refused, false, false, 0},
		{429, failed, true, false, 7 * time.Second}, {503, failed, true, false, 7 * time.Second},
		{500, failed, false, true, 7 * time.Second}, {502, failed, false, true, 7 * time.Second}, {504, failed, false, true, 7 * time.Second}, {599, failed, false, true, 7 * time.Second},
		{408, failed, false, true, 0},
		{301, failed, false, false, slowly}, {401, failed, false, false, slowly}, {403, failed, false, false, slowly}, {404, failed, false, false, slowly}, {415, failed, false, false, slowly}, {418, failed, false, false, slowly},
	} {
		got, err := (&reply{status: tc.status, body: []byte("because"), after: 7 * time.Second, hide: func(s string) string { return s }}).outcome("/path")
		if got != tc.want || (err != nil) != (tc.want == failed) || errors.Is(err, ship.ErrBusy) != tc.busy || troubled(err) != tc.trouble {
			t.Errorf("%d: %v, %v", tc.status, got, err)
		}
		if told := new(Error); errors.As(err, &told) && told.RetryAfter() != tc.after {
			t.Errorf("%d: after %v, want %v", tc.status, told.RetryAfter(), tc.after)
		}
	}
}

func TestTroubled(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {context.Canceled, false}, {net.ErrClosed, false}, {dialError{errors.New("refused")}, false},
		{fmt.Errorf("send: %w", dialError{errors.New("refused")}), false}, {fmt.Errorf("send: %w", &wire.TLSError{Err: errors.New("bad")}), false},
		{fmt.Errorf("send: %w", wire.ErrPeerClosed), true}, {&wire.StalledError{}, true}, {Trouble("500"), true},
	} {
		if got := troubled(tc.err); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}

// records are those of one stream with these offsets.
func records(stream string, offsets ...uint64) *batch {
	b, g := new(batch), &Group{Stream: stream}
	for _, o := range offsets {
		b.records = append(b.records, Record{Group: g, Offset: o})
	}
	return b
}

// A batch is looked into when what it has in common with others failed for long
// enough and often enough, and not before.
func TestOverdue(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var all troubles
	overdue := func(b *batch, after time.Duration) bool {
		_, ok := all.overdue(b, time.Minute, start.Add(after))
		return ok
	}
	one, other, wider := records("s", 10, 20, 30), records("s", 40, 50), records("s", 5, 25)
	for i := range isolateTries {
		if overdue(one, time.Hour) {
			t.Fatalf("after %d tries", i)
		}
		all.failed([]*batch{one, wider}[i%2], start)
		all.failed(other, start.Add(time.Duration(i)*time.Second))
		all.failed(records("r", 10), start.Add(time.Minute))
	}
	if overdue(one, time.Minute-1) || !overdue(one, time.Minute) || !overdue(wider, time.Minute) || !overdue(other, time.Minute) {
		t.Error("it is not the time that counts")
	}
	if overdue(records("s", 31, 39), time.Hour) || overdue(records("q", 10), time.Hour) || overdue(records("r", 10), 2*time.Minute-1) {
		t.Error("what never failed is looked into")
	}
	if _, ok := all.overdue(one, 0, start.Add(time.Hour)); ok {
		t.Error("it was asked not to be")
	}
	all.passed(records("s", 20))
	if overdue(one, time.Hour) || !overdue(other, time.Hour) {
		t.Error("what was taken is looked into, or what was not is forgotten")
	}
}

// No more than a few records are put aside within an hour, and those are known.
func TestConvictionsAreFew(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := &Collector{}
	given := records("s", 1, 2, 3)
	for i := range maxConvicted {
		r := records("s", uint64(i+2)).records[0] //nolint:gosec // small
		if !c.troubles.convict(&r, "because", start.Add(time.Duration(i)*time.Second)) {
			t.Fatalf("after %d", i)
		}
	}
	d := &delivery{poster: &poster{conn: &Conn{collector: c}}, batch: given}
	if rest := d.putAside(given.records); len(rest) != 1 || rest[0].Offset != 1 || len(d.refuse) != 2 || d.refuse[0].Reason != "because" {
		t.Errorf("%v are sent, %v are not", rest, d.refuse)
	}
	if c.troubles.convict(&given.records[0], "", start.Add(time.Hour-1)) || !c.troubles.convict(&given.records[0], "", start.Add(time.Hour)) {
		t.Error("it is not an hour")
	}
}
