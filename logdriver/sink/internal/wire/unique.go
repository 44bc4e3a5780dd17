package wire

import "strconv"

// Unique returns name, or where used has it already, name with a number behind
// it that makes it new, cut to max bytes (max 0: not cut); and notes it in used.
// Attribute names that a protocol had to shorten stay apart that way.
func Unique(used map[string]bool, name string, max int) string {
	unique := name
	for n := 2; used[unique]; n++ {
		suffix := "~" + strconv.Itoa(n)
		head := name
		if max > 0 && len(head)+len(suffix) > max {
			head = head[:max-len(suffix)]
		}
		unique = head + suffix
	}
	used[unique] = true
	return unique
}
