package nats

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/dockline/dockline/internal/redact"
)

const (
	// maxLine bounds a line of the server's; INFO may name many servers.
	maxLine = 1 << 20
	// maxReply bounds an acknowledgement.
	maxReply = 64 << 10
	// maxText bounds what of a server's text gets into an error.
	maxText = 256
)

// line reads one line, and returns its first word and the rest. Both are valid
// until the next read.
func (c *conn) line() (op string, rest []byte, err error) {
	text, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		text, err = c.longLine(text)
	}
	if err != nil {
		return "", nil, err
	}
	text = bytes.TrimRight(text, "\r\n")
	word, rest, _ := bytes.Cut(text, []byte{' '})
	switch string(word) { // does not allocate
	case "MSG":
		return "MSG", rest, nil
	case "HMSG":
		return "HMSG", rest, nil
	}
	return string(bytes.ToUpper(word[:min(len(word), maxText)])), rest, nil
}

func (c *conn) longLine(begin []byte) ([]byte, error) {
	all := bytes.Clone(begin)
	for {
		more, err := c.in.ReadSlice('\n')
		all = append(all, more...)
		if err == nil || !errors.Is(err, bufio.ErrBufferFull) {
			return all, err
		}
		if len(all) > maxLine {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrProtocol, maxLine)
		}
	}
}

// hear takes one thing that the server says.
func (c *conn) hear() error {
	op, rest, err := c.line()
	if err != nil {
		return err
	}
	switch op {
	case "MSG", "HMSG":
		return c.message(rest, op == "HMSG")
	case "PING":
		select {
		case c.pings <- struct{}{}:
		default: // one answer does
		}
		return nil
	case "PONG", "+OK", "INFO":
		return nil // INFO: which other servers there are now
	case "-ERR":
		return refusal(c.clean(string(rest)), false)
	}
	return fmt.Errorf("%w: %q", ErrProtocol, c.clean(op))
}

// message reads an acknowledgement:
//
//	MSG subject sid [reply] length        HMSG subject sid [reply] header-length length
func (c *conn) message(rest []byte, headers bool) error {
	number, head, length, err := c.parseMessage(rest, headers)
	if err != nil {
		return err
	}
	body, err := c.in.Peek(length + 2)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("read an acknowledgement: %w", err)
	}
	if body[length] != '\r' || body[length+1] != '\n' {
		return fmt.Errorf("%w: a message that does not end where it should", ErrProtocol)
	}
	_, sent := c.ledger.Outstanding()
	if number >= sent {
		return fmt.Errorf("%w: an acknowledgement of message %d, which was not sent", ErrProtocol, number)
	}
	if c.window.Waiting(number, sent) { // else it is said twice
		if err := c.judge(body[:head], body[head:length]); err != nil {
			return err
		}
		c.ledger.Advance(c.window.Take(number))
		if err := c.gap(number); err != nil {
			return err
		}
	}
	_, err = c.in.Discard(length + 2)
	return err
}

// holePatience is for how long acknowledgements of later messages may come before
// that of an earlier one. Streams answer in order, but there may be several.
const holePatience = time.Second

// errHole ends a connection: what a stream's leader had not passed on when it died
// nobody acknowledges, while another takes what follows.
var errHole = errors.New("the stream has lost messages and taken later ones, as it does when another server becomes its leader: they are sent again")

// gap looks whether something has got lost before the message that was
// acknowledged last.
func (c *conn) gap(number uint64) error {
	switch {
	case c.window.Done > number:
		c.holed = false
	case !c.holed || c.hole != c.window.Done:
		c.holed, c.hole, c.since = true, c.window.Done, time.Now()
	case time.Since(c.since) > holePatience:
		return errHole
	}
	return nil
}

// parseMessage reads the rest of its line.
func (c *conn) parseMessage(rest []byte, headers bool) (number uint64, head, length int, err error) {
	sizes := 1
	if headers {
		sizes = 2
	}
	var words [5][]byte
	n := 0
	for word := range bytes.FieldsSeq(rest) {
		if n++; n <= len(words) {
			words[n-1] = word
		}
	}
	if n == 2+sizes || n == 3+sizes { // with a subject to reply to
		text, ours := bytes.CutPrefix(words[0], []byte(c.inbox))
		number, ok := decimal(text)
		total, whole := decimal(words[n-1])
		first := uint64(0)
		if headers && whole {
			first, whole = decimal(words[n-2])
		}
		if ours && ok && whole && total <= maxReply-2 && first <= total {
			return number, int(first), int(total), nil //nolint:gosec // at most maxReply
		}
	}
	return 0, 0, 0, fmt.Errorf("%w: message %q", ErrProtocol, c.clean(string(rest)))
}

func decimal(text []byte) (n uint64, ok bool) {
	if len(text) == 0 || len(text) > 19 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// ack is what a stream answers.
type ack struct {
	Stream   string    `json:"stream"`
	Sequence uint64    `json:"seq"`
	Error    *apiError `json:"error"`
}

// judge says whether a stream has taken the message.
func (c *conn) judge(headers, payload []byte) error {
	if len(headers) > 0 {
		line, _, _ := bytes.Cut(headers, []byte("\r\n"))
		if status, ok := bytes.CutPrefix(line, []byte("NATS/1.0 ")); ok {
			return c.status(string(status))
		}
	}
	if taken(payload) {
		return nil
	}
	var a ack
	if err := json.Unmarshal(payload, &a); err != nil {
		return fmt.Errorf("%w: the acknowledgement %q", ErrProtocol, c.clean(string(payload)))
	}
	if a.Error != nil {
		a.Error.Description = c.clean(a.Error.Description)
		err := a.Error.err()
		if errors.Is(err, errTooLarge) {
			return c.smaller()
		}
		return err
	}
	if a.Stream == "" || a.Sequence == 0 {
		return &Error{Said: strconv.Quote(c.clean(string(payload))), After: slowly, Advice: "this is no stream of JetStream: does something else answer to the subject?"}
	}
	return nil
}

// smaller has messages be smaller from the next connection on.
func (c *conn) smaller() error {
	largest := c.largest.Load()
	if largest <= minPayload {
		return &Error{Said: fmt.Sprintf("that the stream takes no message of %d bytes", largest), Advice: "set its max_msg_size to more", After: slowly}
	}
	c.cluster.most.Store(max(largest*3/4, minPayload))
	return errTooLarge
}

// taken reports whether an answer is a plain yes, as nearly all are:
//
//	{"stream":"NAME","seq":N…}
func taken(payload []byte) bool {
	rest, ok := bytes.CutPrefix(payload, []byte(`{"stream":"`))
	if !ok {
		return false
	}
	end := bytes.IndexByte(rest, '"')
	if end < 1 {
		return false
	}
	rest = bytes.TrimLeft(rest[end+1:], ", ")
	if rest, ok = bytes.CutPrefix(rest, []byte(`"seq":`)); !ok {
		return false
	}
	rest = bytes.TrimLeft(rest, " ")
	return len(rest) > 1 && rest[0] >= '1' && rest[0] <= '9' && rest[len(rest)-1] == '}' && !bytes.Contains(rest, []byte(`"error"`))
}

// status is for what the server itself answers.
func (c *conn) status(text string) error {
	if !strings.HasPrefix(text, "503") {
		return &Error{Said: "status " + c.clean(text)}
	}
	advice := "no stream takes the subject: make one, such as `nats stream add LOGS --subjects 'logs.>'`. Where there is one, its servers may be about to elect a leader"
	if !c.info.JetStream {
		advice = "JetStream is not switched on at this server, and no stream elsewhere takes the subject"
	}
	return &Error{Said: "that nobody is there to take the records", Advice: advice, After: soon}
}

// clean returns text of a server's for people, without what it was shown.
func (c *conn) clean(s string) string {
	s = redact.Repeated(s, c.shown...)
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "\ufffd")
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f }), " ")
}
