package forward

import (
	"errors"
	"fmt"
	"io"

	"github.com/tinylib/msgp/msgp"
)

// maxReply bounds what a server may say at once: a chunk's id, or a greeting.
const maxReply = 4 << 10

var (
	// ErrReply says that a server sent what the protocol does not have.
	ErrReply = errors.New("not a reply of the Forward protocol")
	// ErrKeyWanted says that a server asks for a shared key and we were given none.
	ErrKeyWanted = errors.New("the server asks for a shared key: give shared-key-file")
)

// Kinds of greetings.
const (
	kindHello = "HELO"
	kindPing  = "PING"
	kindPong  = "PONG"
)

// replies reads what a server says, one object of msgpack after the other.
type replies struct {
	r        io.Reader
	buf      [maxReply]byte
	from, to int // what is read and not returned
}

// next returns one object, valid until the next one is read; io.EOF only where
// the connection ends between two.
func (r *replies) next() ([]byte, error) {
	for {
		have := r.buf[r.from:r.to]
		rest, err := msgp.Skip(have)
		if err == nil && len(have) > 0 {
			object := have[:len(have)-len(rest)]
			r.from = r.to - len(rest)
			return object, nil
		}
		if err != nil && !errors.Is(err, msgp.ErrShortBytes) {
			return nil, fmt.Errorf("%w: %w", ErrReply, err)
		}
		copy(r.buf[:], have)
		r.from, r.to = 0, len(have)
		if r.to == len(r.buf) {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrReply, maxReply)
		}
		n, err := r.r.Read(r.buf[r.to:])
		r.to += n
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) && r.to > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// parseAck returns the chunk's id of {"ack": id}. Other keys mean nothing.
func parseAck(object []byte) (id []byte, err error) {
	n, rest, err := msgp.ReadMapHeaderBytes(object)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReply, err)
	}
	for range n {
		var key []byte
		if key, rest, err = readText(rest); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrReply, err)
		}
		if string(key) == "ack" {
			id, rest, err = readText(rest)
		} else {
			rest, err = msgp.Skip(rest)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrReply, err)
		}
	}
	if id == nil {
		return nil, fmt.Errorf("%w: no ack in it", ErrReply)
	}
	return id, nil
}

// parseArray returns the kind of a greeting and what is behind it.
func parseArray(object []byte) (kind string, rest []byte, err error) {
	_, rest, err = msgp.ReadArrayHeaderBytes(object)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrReply, err)
	}
	text, rest, err := readText(rest)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrReply, err)
	}
	return string(text), rest, nil
}

// readText reads a str or a bin: servers differ in what they make of text.
func readText(b []byte) (text, rest []byte, err error) {
	if msgp.NextType(b) == msgp.BinType {
		return msgp.ReadBytesZC(b)
	}
	return msgp.ReadStringZC(b)
}
