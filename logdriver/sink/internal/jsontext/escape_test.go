package jsontext

import (
	"encoding/json"
	"testing"
)

func FuzzAppend(f *testing.F) {
	for _, s := range []string{
		"", "plain", `"\`, "\x00\x1f\x7f", "12345678\"", "1234567\\8\n", "ü€😀", "\xff\xfe", "a\xe2\x82", "\ufffd", "\u2028</script>",
		"\xed\xa0\x80", "1234567\x801234567\x01", "\x1f\x20\x1f\x20\x1f\x20\x1f\x20\x1f",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		quoted, valid := Append([]byte{'"'}, s)
		var got string
		if err := json.Unmarshal(append(quoted, '"'), &got); err != nil {
			t.Fatalf("%q: %v in %q", s, err, quoted)
		}
		// A conversion to runes makes each byte that is none a U+FFFD.
		if want := string([]rune(string(s))); got != want || valid != (want == string(s)) {
			t.Errorf("%q reads %q, want %q; valid %v", s, got, want, valid)
		}
	})
}
