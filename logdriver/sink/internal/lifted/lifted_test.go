package lifted

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/ship"
)

func TestNames(t *testing.T) {
	n := Names{Encode: AppendValid, Mark: '~', Max: 8, Reserved: map[string]bool{"id": true, "id~2": true}}
	cases := []struct{ keys, want string }{
		{"a b", "a b"},
		{"a b c", "a b c"},
		{"b b", "b b~2"},
		{"a a a", "a a~2 a~3"},
		{"id a id", "id~3 a id~4"},
		{"a a~2 a", "a a~2 a~3"},
		{"a a a~2", "a a~2 a~2~2"},
		{"a~2 a a", "a~2 a a~3"},
		{"\xff \xfe", "\ufffd \ufffd~2"},
		{"12345678 12345678 12345679", "12345678 123456~2 12345679"},
	}
	check := func(before, keys, want string) {
		n.Reset()
		var got [][]byte
		for key := range strings.SplitSeq(keys, " ") {
			got = append(got, n.Next([]byte(key)))
		}
		if all := string(bytes.Join(got, []byte(" "))); all != want {
			t.Errorf("%q after %q: %q, want %q", keys, before, all, want)
		}
	}
	for _, before := range cases { // which it must not depend on, though Names keeps it
		for _, tc := range cases {
			check("", before.keys, before.want)
			check(before.keys, tc.keys, tc.want)
		}
	}
}

func TestUnique(t *testing.T) {
	used := map[string]bool{"id": true}
	for _, tc := range []struct {
		name string
		max  int
		want string
	}{
		{"a", 0, "a"}, {"a", 0, "a~2"}, {"a", 0, "a~3"}, {"id", 0, "id~2"},
		{"abcd", 4, "abcd"}, {"abcd", 4, "ab~2"}, {"ab~2", 4, "ab~3"}, {"abcd", 4, "ab~4"},
	} {
		if got := Unique(used, tc.name, tc.max); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestOf(t *testing.T) {
	for text, want := range map[string]Value{
		"": {}, "true": {Kind: Bool, Bool: true}, "false": {Kind: Bool}, "null": {Kind: Null},
		"0": {Kind: Int}, "-12": {Kind: Int, Int: -12}, "9223372036854775807": {Kind: Int, Int: 1<<63 - 1}, "9223372036854775808": {},
		"1.5": {Kind: Float, Float: 1.5}, "-1E3": {Kind: Float, Float: -1000}, "1e999": {}, "[1]": {}, `{"a":1}`: {},
	} {
		if got := Of(&ship.Field{Value: []byte(text), Raw: true}); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
		if got := Of(&ship.Field{Value: []byte(text)}); got != (Value{}) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	n := Names{Encode: AppendValid, Mark: '~', Reserved: map[string]bool{"id": true}}
	fields := []ship.Field{{Key: []byte("id")}, {Key: []byte("a\xff")}, {Key: []byte("a\xff"), Value: []byte("1.25"), Raw: true}}
	if allocs := testing.AllocsPerRun(100, func() {
		n.Reset()
		for i := range fields {
			n.Next(fields[i].Key)
			Of(&fields[i])
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
