package wire

import (
	"strconv"

	"github.com/dockline/dockline/logdriver/ship"
)

// lengthRoom is how many digits the length of a usual message has.
const lengthRoom = 3

// AppendCounted appends one message behind its length in decimal and a space,
// as RFC 6587 section 3.4.1 and RELP have it. Where the length turns out
// not to have three digits, the message is moved.
func AppendCounted(dst []byte, t ship.Template, r *ship.Record) []byte {
	const room = lengthRoom + 1
	start := len(dst)
	dst = t.Append(append(dst, "000 "...), r)
	length := len(dst) - start - room
	var digits [20]byte
	head := append(strconv.AppendInt(digits[:0], int64(length), 10), ' ')
	switch extra := len(head) - room; {
	case extra > 0:
		dst = append(dst, digits[:extra]...) // grow; what is appended is overwritten
		copy(dst[start+len(head):], dst[start+room:start+room+length])
	case extra < 0:
		copy(dst[start+len(head):], dst[start+room:])
		dst = dst[:len(dst)+extra]
	}
	copy(dst[start:], head)
	return dst
}
