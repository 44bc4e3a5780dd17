// Package terminal keeps what others have said from doing anything to a terminal that
// shows it: names, errors, records.
package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Safe returns a writer to w of text that a terminal only shows: control characters
// but newline and tab, and those that turn the direction of writing, are written as
// \u001b and the like, which is what they are in JSON, too. Names, errors and
// records are what others have said, and a terminal does what it is told.
func Safe(w io.Writer) io.Writer { return &safe{w} }

type safe struct{ to io.Writer }

func (s *safe) Write(p []byte) (int, error) {
	if clean(p) {
		return s.to.Write(p)
	}
	var b strings.Builder
	for rest := p; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, rest[0])
		case acts(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.Write(rest[:n])
		}
		rest = rest[n:]
	}
	if _, err := io.WriteString(s.to, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func clean(p []byte) bool {
	return utf8.Valid(p) && strings.IndexFunc(string(p), acts) < 0
}

// acts reports whether a terminal may do something else than show the character.
func acts(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029')
}
