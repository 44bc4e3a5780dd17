package gelf

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// The parser below is written from the specification of GELF 1.1 and takes
// nothing that it does not name.

var (
	additional = regexp.MustCompile(`^_[\w.\-]+$`)
	seconds    = regexp.MustCompile(`^-?\d+(\.\d+)?$`)
)

// parse reads one message and returns its fields: strings, and numbers as they
// are written.
func parse(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return nil, errors.New("not UTF-8, or a NUL within")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if begin, err := dec.Token(); err != nil || begin != json.Delim('{') {
		return nil, fmt.Errorf("not an object: %v, %w", begin, err)
	}
	fields := map[string]any{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		value, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		if err := check(name, value); err != nil {
			return nil, err
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something is behind the message")
	}
	for _, name := range []string{"version", "host", "short_message", "timestamp", "level"} {
		if fields[name] == nil {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	return fields, nil
}

func check(name string, value any) error {
	text, isText := value.(string)
	number, isNumber := value.(json.Number)
	ok := false
	switch name {
	case "version":
		ok = text == "1.1"
	case "host", "short_message":
		ok = strings.TrimSpace(text) != "" // Graylog refuses others
	case "full_message":
		ok = isText
	case "timestamp":
		ok = isNumber && seconds.MatchString(number.String())
	case "level":
		ok = isNumber && len(number) == 1 && number >= "0" && number <= "7"
	case "_id":
	default:
		ok = additional.MatchString(name) && (isText || isNumber)
	}
	if !ok {
		return fmt.Errorf("%s: %v", name, value)
	}
	return nil
}

// line returns a message's line.
func line(fields map[string]any) (string, error) {
	text := fields["short_message"]
	if full, ok := fields["full_message"]; ok {
		text = full
	}
	if exact, ok := fields["_line_base64"].(string); ok {
		raw, err := base64.StdEncoding.DecodeString(exact)
		return string(raw), err
	}
	return text.(string), nil
}

// assembler puts datagrams together.
type assembler struct {
	parts map[string][][]byte // by id
	max   int
}

// take returns a message where the datagram completes one.
func (a *assembler) take(datagram []byte) ([]byte, error) {
	if len(datagram) > a.max {
		return nil, fmt.Errorf("%d bytes in a datagram", len(datagram))
	}
	if !bytes.HasPrefix(datagram, []byte{0x1e, 0x0f}) {
		return inflate(datagram)
	}
	if len(datagram) < 13 {
		return nil, errors.New("an empty chunk")
	}
	id, number, count := string(datagram[2:10]), int(datagram[10]), int(datagram[11])
	if a.parts[id] == nil {
		if count < 2 || count > 128 {
			return nil, fmt.Errorf("%d chunks", count)
		}
		a.parts[id] = make([][]byte, count)
	}
	all := a.parts[id]
	if len(all) != count || number >= count || all[number] != nil {
		return nil, fmt.Errorf("chunk %d of %d, of %d", number, count, len(all))
	}
	all[number] = bytes.Clone(datagram[12:])
	for _, part := range all {
		if part == nil {
			return nil, nil
		}
	}
	delete(a.parts, id)
	return inflate(bytes.Join(all, nil))
}

// inflate looks at the first two bytes, as receivers do.
func inflate(message []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch magic := binary.BigEndian.Uint16(append(message[:len(message):len(message)], 0, 0)); {
	case magic == 0x1f8b:
		r, err = gzip.NewReader(bytes.NewReader(message))
	case magic>>8 == 0x78 && magic%31 == 0:
		r, err = zlib.NewReader(bytes.NewReader(message))
	default:
		return message, nil
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
