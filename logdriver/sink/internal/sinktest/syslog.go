package sinktest

import (
	"bytes"
	"fmt"

	"github.com/leodido/go-syslog/v4/rfc5424"
)

// Line returns the MSG of an RFC 5424 message, whose other parts have to be what
// a strict parser takes. MSG may hold any bytes.
func Line(raw []byte) (string, error) {
	at := 0
	for range 6 { // up to the structured data
		n := bytes.IndexByte(raw[at:], ' ')
		if n < 0 {
			return "", fmt.Errorf("no header in %.200q", raw)
		}
		at += n + 1
	}
	for quoted := false; at < len(raw) && (quoted || raw[at] != ']'); at++ {
		switch raw[at] {
		case '\\':
			at++
		case '"':
			quoted = !quoted
		}
	}
	if at+1 >= len(raw) || raw[at+1] != ' ' {
		return "", fmt.Errorf("no end of the structured data in %.400q", raw)
	}
	if _, err := rfc5424.NewParser().Parse(raw[:at+1]); err != nil {
		return "", fmt.Errorf("%.400q: %w", raw[:at+1], err)
	}
	return string(raw[at+2:]), nil
}
