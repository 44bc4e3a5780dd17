// Package stamp writes what differs from record to record in every template:
// RFC 3339 time stamps, and offsets as record ids have them. Records come
// in the order of time, thousands within a second, so that a time stamp down to
// the second is formatted once and then copied.
package stamp

import "time"

const (
	layout   = "2006-01-02T15:04:05."
	second   = int64(time.Second)
	noSecond = -1 << 63 // no int64 of nanoseconds has as many seconds
)

// Cache is the second that was formatted last. It is used by one goroutine at
// a time.
type Cache struct {
	sec  int64
	text [len(layout)]byte
}

// New returns an empty cache.
func New() Cache { return Cache{sec: noSecond} }

// AppendMicro appends ns (nanoseconds since 1970) in UTC with six decimals,
// which is as many as RFC 5424 section 6.2.3 allows; the rest is cut off.
func (c *Cache) AppendMicro(dst []byte, ns int64) []byte {
	dst, frac := c.appendSecond(dst, ns)
	return append(appendDigits(dst, frac/1000, 6), 'Z')
}

// AppendNano appends ns (nanoseconds since 1970) in UTC with nine decimals,
// always, so that the text sorts as the time does.
func (c *Cache) AppendNano(dst []byte, ns int64) []byte {
	dst, frac := c.appendSecond(dst, ns)
	return append(appendDigits(dst, frac, 9), 'Z')
}

func (c *Cache) appendSecond(dst []byte, ns int64) (out []byte, frac uint32) {
	sec, rest := ns/second, ns%second
	if rest < 0 {
		sec, rest = sec-1, rest+second
	}
	if sec != c.sec {
		// Every int64 of nanoseconds falls into a year of four digits.
		copy(c.text[:], time.Unix(sec, 0).UTC().AppendFormat(c.text[:0], layout))
		c.sec = sec
	}
	return append(dst, c.text[:]...), uint32(rest)
}

func appendDigits(dst []byte, n uint32, width int) []byte {
	var digits [9]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, digits[:width]...)
}
