package collector

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// gelfMessage is what is read of a message. Others may be in it.
type gelfMessage struct {
	Version   string  `json:"version"`
	Host      string  `json:"host"`
	Short     string  `json:"short_message"`
	Full      *string `json:"full_message"` // where it is there, the line
	Time      float64 `json:"timestamp"`
	ID        string  `json:"_record_id"`
	Container string  `json:"_container_name"`
	Source    string  `json:"_stream"`
	Exact     []byte  `json:"_line_base64"` // the line, where it is not UTF-8
	Cut       string  `json:"_cut"`
}

// serveGELF reads messages that each end with a NUL.
func serveGELF(s *session) error {
	for {
		raw, err := s.in.ReadSlice(0)
		for long := bytes.Clone(raw); errors.Is(err, bufio.ErrBufferFull); {
			raw, err = s.in.ReadSlice(0)
			if long = append(long, raw...); len(long) > maxLine {
				return fmt.Errorf("a message is longer than %d bytes", maxLine)
			}
			raw = long
		}
		if err != nil {
			return err
		}
		r, err := parseGELF(raw[:len(raw)-1])
		if err != nil {
			return err
		}
		s.record(r)
	}
}

func parseGELF(raw []byte) (Record, error) {
	var m gelfMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return Record{}, fmt.Errorf("a message is not the JSON object expected: %w: %.80q", err, raw)
	}
	if m.Version != "1.1" || m.Host == "" || m.Short == "" || m.Time <= 0 {
		return Record{}, fmt.Errorf("version, host, short_message or timestamp is missing in %.200q", raw)
	}
	r := Record{ID: m.ID, Container: m.Container, Source: m.Source, Cut: m.Cut == "true", Line: []byte(m.Short)}
	if m.Full != nil {
		r.Line = []byte(*m.Full)
	}
	if m.Exact != nil {
		r.Line = m.Exact
	}
	return r, check(r)
}
