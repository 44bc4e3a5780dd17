package wire

import "github.com/dockline/dockline/logdriver/sink/internal/lifted"

// Unique is lifted.Unique, for the attributes of a stream: those that a protocol
// had to shorten stay apart that way.
func Unique(used map[string]bool, name string, most int) string {
	return lifted.Unique(used, name, most)
}
