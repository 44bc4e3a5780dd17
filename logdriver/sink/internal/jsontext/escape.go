// Package jsontext writes JSON without allocating: what the sinks whose messages
// are objects have in common.
package jsontext

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// Append appends s as the inside of a JSON string (RFC 8259 section 7) and reports whether it is valid UTF-8. Each byte that is not part of a rune
// becomes U+FFFD, as with encoding/json.
func Append(dst, s []byte) (out []byte, valid bool) {
	if utf8.Valid(s) {
		return appendValid(dst, s), true
	}
	for len(s) > 0 {
		n := validLen(s)
		dst = appendValid(dst, s[:n])
		if s = s[n:]; len(s) > 0 {
			dst, s = append(dst, "\ufffd"...), s[1:]
		}
	}
	return dst, false
}

// validLen returns how many bytes at the beginning of s are valid UTF-8.
func validLen(s []byte) int {
	n := 0
	for n < len(s) {
		r, size := utf8.DecodeRune(s[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// room is what one step of appendValid may write: eight bytes and an escape.
const room = 16

// appendValid appends s, which is valid UTF-8. It copies eight bytes at a
// time, and takes back what is behind the first one that has to be escaped.
func appendValid(dst, s []byte) []byte {
	for len(s) >= 8 {
		if cap(dst)-len(dst) < room {
			dst = slices.Grow(dst, len(s)+room)
		}
		w, at := binary.LittleEndian.Uint64(s), len(dst)
		binary.LittleEndian.PutUint64(dst[at:at+8], w)
		mark := escapes(w)
		if mark == 0 {
			dst, s = dst[:at+8], s[8:]
			continue
		}
		n := bits.TrailingZeros64(mark) / 8
		dst, s = appendEscape(dst[:at+n], s[n]), s[n+1:]
	}
	for _, c := range s {
		if c < ' ' || c == '"' || c == '\\' {
			dst = appendEscape(dst, c)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// Masks that repeat a byte over a word.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// escapes sets the high bit of the bytes of w that a JSON string cannot hold
// as they are. Subtracting borrows from the high bit where a byte is less:
// x-0x20 where x is a control character, (x^c)-1 where x is c. A borrow can
// only mark bytes behind one that is marked rightly, so the lowest mark is exact.
func escapes(w uint64) uint64 {
	quote, slash := w^('"'*ones), w^('\\'*ones)
	return ((w - ' '*ones) | (quote - ones) | (slash - ones)) &^ w & highs
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\t':
		return append(dst, '\\', 't')
	case '\r':
		return append(dst, '\\', 'r')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// AppendField appends a key, its value and a comma.
func AppendField(dst []byte, key, value string) []byte {
	dst, _ = Append(append(dst, '"'), []byte(key))
	dst, _ = Append(append(dst, `":"`...), []byte(value))
	return append(dst, `",`...)
}
