package history

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever the entries of a file are, it is read without harm, and what was
// understood is the same when it is written and read again.
func FuzzEntries(f *testing.F) {
	st := &stream{num: 1, id: "s", owner: "c", name: "web", created: 5, since: 6}
	p := &pair{num: 2, pool: "p", name: "a"}
	sp := &span{num: 3, stream: st, pair: p, from: 10, last: 20, until: 30, records: 4, bytes: 50}
	for _, payload := range [][]byte{
		appendNumber(nil, kindSince, 7), appendStream(nil, st), appendPair(nil, p), appendSpan(nil, sp),
		appendGap(nil, Gap{From: moment(1), To: moment(2), Why: "x"}), appendNumber(nil, kindDrop, 3), appendNumber(nil, kindForget, 1), {kindClean}, {kindBoot, 0}, {'?'},
	} {
		f.Add(payload, appendSpan(nil, sp))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if len(one) > maxText || len(two) > maxText {
			return
		}
		data := frame(appendHeader(nil, 0), appendNumber(nil, kindSince, 1))
		for _, payload := range [][]byte{appendStream(nil, st), appendPair(nil, p), one, two} {
			data = frame(data, payload)
		}
		opts := Options{File: filepath.Join(t.TempDir(), "placement"), MaxBytes: 1 << 20, Log: slog.New(slog.DiscardHandler), Boot: "b", Now: func() time.Time { return at(0) }}
		open := func(data []byte) (h *History, stats Stats) {
			if err := os.WriteFile(opts.File, data, 0o600); err != nil {
				t.Fatal(err)
			}
			h = Open(opts)
			h.closeFile()
			stats = h.Stats()
			stats.Bytes = 0
			return h, stats
		}
		h, first := open(data)
		again, second := open(h.imageLocked())
		if first != second || h.live != again.live || len(h.pairs) != len(again.pairs) {
			t.Errorf("%+v with %d bytes became %+v with %d", first, h.live, second, again.live)
		}
	})
}
