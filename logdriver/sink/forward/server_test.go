package forward

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/tinylib/msgp/msgp"
)

// server is the other side, written from the specification, and strict.
type server struct {
	key, user, password string // "" where it asks for none
	compressed          bool   // whether entries have to be

	mu      sync.Mutex // guards readers
	readers map[*bufio.Reader]*msgp.Reader
}

func (s *server) reader(br *bufio.Reader) *msgp.Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers == nil {
		s.readers = map[*bufio.Reader]*msgp.Reader{}
	}
	if s.readers[br] == nil {
		s.readers[br] = msgp.NewReader(br)
	}
	return s.readers[br]
}

// message is one that was read.
type message struct {
	tag     string
	chunk   string
	entries []entry
}

type entry struct {
	at     time.Time
	record map[string]any
}

func (s *server) read(br *bufio.Reader) (m message, err error) {
	v, err := s.reader(br).ReadIntf()
	if err != nil {
		return m, err
	}
	parts, ok := v.([]any)
	if !ok || len(parts) != 3 {
		return m, fmt.Errorf("not an array of three: %.200v", v)
	}
	tag, isTag := parts[0].(string)
	packed, isPacked := parts[1].([]byte)
	options, isMap := parts[2].(map[string]any)
	if !isTag || !isPacked || !isMap || tag == "" {
		return m, fmt.Errorf("not [tag, bin, options]: %.200v", v)
	}
	m.tag = tag
	m.chunk, _ = options["chunk"].(string)
	if raw, err := base64.StdEncoding.DecodeString(m.chunk); err != nil || len(raw) != 16 {
		return m, fmt.Errorf("chunk %q is not 128 bits in base64", m.chunk)
	}
	if (options["compressed"] == "gzip") != s.compressed {
		return m, fmt.Errorf("options %v", options)
	}
	if s.compressed {
		zip, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return m, err
		}
		if packed, err = io.ReadAll(zip); err != nil {
			return m, err
		}
	}
	if m.entries, err = readEntries(packed); err == nil && options["size"] != int64(len(m.entries)) {
		err = fmt.Errorf("size %v of %d entries", options["size"], len(m.entries))
	}
	return m, err
}

func readEntries(packed []byte) (all []entry, err error) {
	for len(packed) > 0 {
		n, rest, err := msgp.ReadArrayHeaderBytes(packed)
		if err != nil || n != 2 {
			return nil, fmt.Errorf("an entry of %d: %w", n, err)
		}
		// EventTime is fixext 8 or ext 8 of type 0.
		if len(rest) < 10 || rest[0] != 0xd7 || rest[1] != 0 {
			return nil, fmt.Errorf("no EventTime in %x", rest[:min(10, len(rest))])
		}
		at := time.Unix(int64(binary.BigEndian.Uint32(rest[2:])), int64(binary.BigEndian.Uint32(rest[6:])))
		var record map[string]any
		if record, packed, err = msgp.ReadMapStrIntfBytes(rest[10:], nil); err != nil {
			return nil, fmt.Errorf("a record: %w", err)
		}
		all = append(all, entry{at, record})
	}
	return all, nil
}

// next reads one message as the conformance tests want it.
func (s *server) next(br *bufio.Reader) (lines []string, reply []byte, err error) {
	m, err := s.read(br)
	for _, e := range m.entries {
		switch line := e.record["log"].(type) {
		case string:
			lines = append(lines, line)
		case []byte:
			lines = append(lines, string(line))
		default:
			return nil, nil, fmt.Errorf("log is %v", line)
		}
	}
	return lines, ack(m.chunk), err
}

func ack(chunk string) []byte {
	return msgp.AppendString(msgp.AppendString(msgp.AppendMapHeader(nil, 1), "ack"), chunk)
}

// greet asks for the key and the user.
func (s *server) greet(c net.Conn, br *bufio.Reader) error {
	if s.key == "" {
		return nil
	}
	nonce, auth := []byte("0123456789abcde\xff"), []byte{}
	if s.user != "" {
		auth = []byte("salt of \xfe auth")
	}
	dst := msgp.AppendString(msgp.AppendArrayHeader(nil, 2), "HELO")
	dst = msgp.AppendMapHeader(dst, 3)
	dst = msgp.AppendBytes(msgp.AppendString(dst, "nonce"), nonce)
	dst = msgp.AppendBytes(msgp.AppendString(dst, "auth"), auth)
	dst = msgp.AppendBool(msgp.AppendString(dst, "keepalive"), true)
	if _, err := c.Write(dst); err != nil {
		return err
	}
	v, err := s.reader(br).ReadIntf()
	if err != nil {
		return err
	}
	ping, ok := v.([]any)
	if !ok || len(ping) != 6 || ping[0] != "PING" {
		return fmt.Errorf("not a PING: %v", v)
	}
	host, salt := ping[1].(string), ping[2].(string)
	reason := ""
	if ping[3] != digest([]byte(salt), []byte(host), nonce, []byte(s.key)) {
		reason = "shared_key mismatch"
	} else if s.user != "" && (ping[4] != s.user || ping[5] != digest(auth, []byte(s.user), []byte(s.password))) {
		reason = "username/password mismatch"
	}
	if err := s.pong(c, reason, salt, nonce); err != nil {
		return err
	}
	if reason != "" {
		return errors.New(reason)
	}
	return nil
}

func (s *server) pong(c net.Conn, reason, salt string, nonce []byte) error {
	dst := msgp.AppendString(msgp.AppendArrayHeader(nil, 5), "PONG")
	dst = msgp.AppendString(msgp.AppendBool(dst, reason == ""), reason)
	name, sum := "", ""
	if reason == "" {
		name, sum = "collector", digest([]byte(salt), []byte("collector"), nonce, []byte(s.key))
	}
	_, err := c.Write(msgp.AppendString(msgp.AppendString(dst, name), sum))
	return err
}
