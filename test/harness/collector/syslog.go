package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxMessage bounds one syslog message.
const maxMessage = 64 << 20

var errMessage = errors.New("not an RFC 5424 message")

// serveSyslog reads octet-counted messages (RFC 6587 section 3.4.1).
func serveSyslog(s *session) error {
	for {
		length, err := readNumber(s, ' ')
		if err != nil {
			return err
		}
		msg, err := readExactly(s, length, maxMessage)
		if err != nil {
			return err
		}
		r, err := ParseSyslog(msg)
		if err != nil {
			return err
		}
		s.record(r)
	}
}

// readNumber reads decimal digits up to an end byte. RFC 6587 forbids leading zeros.
func readNumber(s *session, end byte) (int, error) {
	n := 0
	for digits := 0; ; digits++ {
		b, err := s.in.ReadByte()
		switch {
		case err != nil:
			return 0, err
		case b == end && digits > 0:
			return n, nil
		case b < '0' || b > '9' || digits == 9 || digits == 0 && b == '0':
			return 0, fmt.Errorf("%q where a number that ends in %q was expected", b, end)
		}
		n = n*10 + int(b-'0')
	}
}

func readExactly(s *session, n, most int) ([]byte, error) {
	if n > most {
		return nil, fmt.Errorf("a message of %d bytes is longer than %d", n, most)
	}
	data := make([]byte, n)
	_, err := io.ReadFull(s.in, data)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // cut off by the end of the connection, which is no fault of the sender's
	}
	return data, err
}

// ParseSyslog reads an RFC 5424 message. The line shares msg's memory.
func ParseSyslog(msg []byte) (Record, error) {
	rest, err := header(msg)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w: %.200q", errMessage, err, msg)
	}
	params, rest, err := structuredData(rest)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w: %.200q", errMessage, err, msg)
	}
	if len(rest) > 0 {
		if rest[0] != ' ' {
			return Record{}, fmt.Errorf("%w: no blank after the structured data: %.200q", errMessage, msg)
		}
		rest = rest[1:]
	}
	r := Record{
		ID: params["id"], Container: params["container_name"], Source: params["source"],
		Cut: params["cut"] == "true", Line: rest,
	}
	return r, check(r)
}

// header skips PRI, VERSION and the five fields up to the structured data.
func header(msg []byte) ([]byte, error) {
	pri, rest, ok := bytes.Cut(msg, []byte(">1 "))
	if !ok || len(pri) < 2 || pri[0] != '<' {
		return nil, errors.New("no PRI and version 1")
	}
	if n, err := strconv.Atoi(string(pri[1:])); err != nil || n < 0 || n > 191 {
		return nil, fmt.Errorf("PRI %q", pri)
	}
	for _, name := range []string{"TIMESTAMP", "HOSTNAME", "APP-NAME", "PROCID", "MSGID"} {
		var field []byte
		if field, rest, ok = bytes.Cut(rest, []byte(" ")); !ok || len(field) == 0 {
			return nil, fmt.Errorf("no %s", name)
		}
		for _, b := range field {
			if b < 33 || b > 126 {
				return nil, fmt.Errorf("%s holds %q", name, b)
			}
		}
	}
	return rest, nil
}

// structuredData reads all parameters of all elements (RFC 5424 section 6.3).
func structuredData(in []byte) (params map[string]string, rest []byte, err error) {
	params = make(map[string]string)
	if bytes.HasPrefix(in, []byte("-")) {
		return params, in[1:], nil
	}
	if len(in) == 0 || in[0] != '[' {
		return nil, nil, errors.New("no structured data")
	}
	for len(in) > 0 && in[0] == '[' {
		at := bytes.IndexAny(in, " ]")
		if at < 2 {
			return nil, nil, errors.New("an element without a name")
		}
		in = in[at:]
		for in[0] == ' ' {
			if in, err = parameter(in[1:], params); err != nil {
				return nil, nil, err
			}
		}
		if in[0] != ']' {
			return nil, nil, errors.New("an element without an end")
		}
		in = in[1:]
	}
	return params, in, nil
}

// parameter reads NAME="VALUE" into params and returns what follows, which is
// at least one byte.
func parameter(in []byte, params map[string]string) ([]byte, error) {
	name, rest, ok := bytes.Cut(in, []byte(`="`))
	if !ok || len(name) == 0 || len(name) > 32 || bytes.ContainsAny(name, ` "]=`) {
		return nil, fmt.Errorf("a parameter's name: %.40q", in)
	}
	var value []byte
	for i := 0; i < len(rest)-1; i++ {
		switch b := rest[i]; b {
		case '"':
			params[string(name)] = string(value)
			return rest[i+1:], nil
		case ']':
			return nil, fmt.Errorf("an unescaped ] in parameter %s", name)
		case '\\':
			if next := rest[i+1]; next == '"' || next == '\\' || next == ']' {
				i++
				b = next
			}
			value = append(value, b)
		default:
			value = append(value, b)
		}
	}
	return nil, fmt.Errorf("parameter %s does not end", name)
}
