package ship

import (
	"fmt"
	"testing"
)

// A parcel knows what it takes, fields included, and gives back what was put in.
func TestParcel(t *testing.T) {
	p := new(parcel)
	want := func(i int) *Record {
		r := &Record{Offset: uint64(i), Line: fmt.Append(nil, "line ", i)}
		for n := range i % 5 {
			r.Fields = append(r.Fields, Field{Key: fmt.Append(nil, "key", n), Value: fmt.Append(nil, i), Raw: n%2 == 0})
		}
		return r
	}
	const n = 100
	bytes, fields := 0, 0
	for i := range n {
		r := want(i)
		p.add(r, uint64(i))
		bytes += len(r.Line)
		for _, f := range r.Fields {
			bytes += len(f.Key) + len(f.Value)
			fields++
		}
	}
	for i := range n {
		if got, want := p.at(i), want(i); fmt.Sprint(*got) != fmt.Sprint(*want) {
			t.Errorf("%d: %v, want %v", i, got, want)
		}
	}
	if w := p.weight(); w < bytes+40*fields+100*n {
		t.Errorf("it weighs %d, and holds %d bytes in %d records and %d fields", w, bytes, n, fields)
	}
}
