package record

import (
	"encoding/binary"
	"fmt"

	"github.com/docker/docker/api/types/plugins/logdriver"
)

// Encoder writes records as the engine expects them from ReadLogs.
type Encoder struct {
	entry logdriver.LogEntry
	buf   []byte
}

// Append appends one framed entry to dst and returns it. The engine prints
// Line as it is, so a line that is to end in a newline has to carry it.
func (c *Encoder) Append(dst []byte, stderr bool, time int64, line []byte) ([]byte, error) {
	c.entry = logdriver.LogEntry{Source: "stdout", TimeNano: time, Line: line}
	if stderr {
		c.entry.Source = "stderr"
	}
	size := c.entry.Size()
	if cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	n, err := c.entry.MarshalTo(c.buf[:size])
	if err != nil {
		return dst, fmt.Errorf("encode a log entry: %w", err)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	return append(dst, c.buf[:n]...), nil
}
