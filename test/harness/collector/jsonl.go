package collector

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// maxLine bounds one JSON object with its newline.
const maxLine = 64 << 20

// jsonMessage is what is read of an object. Others may be in it.
type jsonMessage struct {
	ID        string `json:"id"`
	Container string `json:"container_name"`
	Source    string `json:"stream"`
	Message   string `json:"message"`
	// MessageBase64 takes the place of Message where the line is not UTF-8.
	MessageBase64 []byte `json:"message_base64"`
	Cut           bool   `json:"cut"`
}

// serveJSON reads one object a line.
func serveJSON(s *session) error {
	for {
		line, err := readLine(s)
		if err != nil {
			return err
		}
		r, err := parseJSON(line)
		if err != nil {
			return err
		}
		s.record(r)
	}
}

func parseJSON(line []byte) (Record, error) {
	var m jsonMessage
	if err := json.Unmarshal(line, &m); err != nil {
		return Record{}, fmt.Errorf("a line is not the JSON object expected: %w: %.80q", err, line)
	}
	r := Record{ID: m.ID, Container: m.Container, Source: m.Source, Cut: m.Cut, Line: []byte(m.Message)}
	if m.MessageBase64 != nil {
		r.Line = m.MessageBase64
	}
	return r, check(r)
}

// readLine returns a line without its newline, valid until the next call. What
// comes after the last newline is dropped: the sender knows that it is not whole.
func readLine(s *session) ([]byte, error) {
	line, err := s.in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = s.in.ReadSlice('\n')
		long = append(long, line...)
		if len(long) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
	}
	if err != nil {
		return nil, err
	}
	return long[:len(long)-1], nil
}

// check refuses records that cannot be told apart.
func check(r Record) error {
	switch {
	case r.ID == "":
		return fmt.Errorf("a record has no id: %+.200v", r)
	case r.Container == "":
		return fmt.Errorf("record %s names no container", r.ID)
	case r.Source != "stdout" && r.Source != "stderr":
		return fmt.Errorf("record %s has the source %q", r.ID, r.Source)
	}
	return nil
}
