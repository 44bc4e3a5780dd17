package tally

import (
	"testing"
	"testing/iotest"

	"io"
	"strings"
)

func TestWriterCutsAsTheEngineDoes(t *testing.T) {
	for text, lines := range map[string][]string{
		"":           nil,
		"a\nb\n":     {"a", "b"},
		"a\n\nb":     {"a", "", "b"},
		"\x00\xff\n": {"\x00\xff"},
		"no end":     {"no end"},
	} {
		var want Lines
		for _, l := range lines {
			want.Add(Hash([]byte(l)), len(l))
		}
		for name, in := range map[string]io.Reader{
			"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)),
		} {
			var w Writer
			if _, err := io.Copy(&w, in); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
			if w.Lines != want {
				t.Errorf("%q, %s: %+v, not %+v", text, name, w.Lines, want)
			}
		}
	}
}

func TestOrderMatters(t *testing.T) {
	var ab, ba Lines
	a, b := Hash([]byte("a")), Hash([]byte("b"))
	ab.Add(a, 1)
	ab.Add(b, 1)
	ba.Add(b, 1)
	ba.Add(a, 1)
	if ab == ba {
		t.Error("two orders have the same tally")
	}
}
