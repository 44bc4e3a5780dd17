package stamp

const hexDigits = "0123456789abcdef"

// AppendOffset appends the second half of a record's id: its number in 16
// hexadecimal digits, so that ids of a stream sort as its records do.
func AppendOffset(dst []byte, offset uint64) []byte {
	var digits [16]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = hexDigits[offset&15]
		offset >>= 4
	}
	return append(dst, digits[:]...)
}
