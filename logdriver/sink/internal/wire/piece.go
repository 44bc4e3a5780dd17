package wire

import (
	"unicode/utf8"
)

// RuneEnd returns where to cut s, at most at n, so that no rune is divided.
func RuneEnd(s []byte, n int) int {
	for at := n; at > n-utf8.UTFMax; at-- {
		if utf8.RuneStart(s[at]) {
			return at
		}
	}
	return n
}
