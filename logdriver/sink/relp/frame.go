package relp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// What a server may send at most. Its frames carry a code and a line of text,
// or at the opening its offers.
const (
	maxData    = 16 << 10
	maxCommand = 32
	maxDigits  = 9 // of a number: RELP's NUMBER is 1*9DIGIT
)

// ErrFrame says that a server sent what is not a RELP frame.
var ErrFrame = errors.New("not a RELP frame")

// frame is one frame of a server:
//
//	TXNR SP COMMAND SP DATALEN [SP DATA] LF
type frame struct {
	txnr    uint32
	command string
	data    []byte // valid until the next frame is read
}

// frameReader reads frames strictly, and none that is longer than a server has
// reason to send.
type frameReader struct {
	br   *bufio.Reader
	data []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{br: bufio.NewReaderSize(r, 16<<10)}
}

// next returns io.EOF only where the connection ends between two frames.
func (r *frameReader) next() (f frame, err error) {
	if _, err := r.br.Peek(1); err != nil {
		return frame{}, err
	}
	if f.txnr, err = r.txnr(); err != nil {
		return frame{}, fmt.Errorf("read txnr: %w", err)
	}
	if f.command, err = r.command(); err != nil {
		return frame{}, fmt.Errorf("read command: %w", err)
	}
	if f.data, err = r.body(); err != nil {
		return frame{}, fmt.Errorf("read data: %w", err)
	}
	return f, nil
}

// number reads one to nine digits and the byte behind them, a space or LF.
func (r *frameReader) number() (n uint32, end byte, err error) {
	for digits := 0; ; digits++ {
		c, err := r.byte()
		switch {
		case err != nil:
			return 0, 0, err
		case (c == ' ' || c == '\n') && digits > 0:
			return n, c, nil
		case c < '0' || c > '9' || digits == maxDigits:
			return 0, 0, fmt.Errorf("%w: %q in a number", ErrFrame, c)
		}
		n = n*10 + uint32(c-'0')
	}
}

func (r *frameReader) txnr() (uint32, error) {
	n, end, err := r.number()
	if err == nil && end != ' ' {
		err = fmt.Errorf("%w: ends behind its txnr", ErrFrame)
	}
	return n, err
}

// command reads 1 to 32 letters and a space.
func (r *frameReader) command() (string, error) {
	var letters [maxCommand]byte
	for n := 0; ; n++ {
		c, err := r.byte()
		switch {
		case err != nil:
			return "", err
		case c == ' ' && n > 0:
			return known(letters[:n]), nil
		case (c|0x20) < 'a' || (c|0x20) > 'z' || n == maxCommand:
			return "", fmt.Errorf("%w: %q in a command", ErrFrame, c)
		}
		letters[n] = c
	}
}

// known saves the allocation for the command that comes once per record.
func known(command []byte) string {
	if string(command) == cmdResponse {
		return cmdResponse
	}
	return string(command)
}

// body reads DATALEN and what it announces. Where that is nothing, the space
// before it may be missing.
func (r *frameReader) body() ([]byte, error) {
	length, end, err := r.number()
	switch {
	case err != nil:
		return nil, err
	case length > maxData:
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrFrame, length, maxData)
	case end == '\n' && length != 0:
		return nil, fmt.Errorf("%w: ends before its data", ErrFrame)
	case end == '\n':
		return nil, nil
	}
	if r.data == nil {
		r.data = make([]byte, maxData+1)
	}
	data := r.data[:length+1]
	if _, err := io.ReadFull(r.br, data); err != nil {
		return nil, cutOff(err)
	}
	if c := data[length]; c != '\n' {
		return nil, fmt.Errorf("%w: %q instead of its end", ErrFrame, c)
	}
	return data[:length], nil
}

func (r *frameReader) byte() (byte, error) {
	c, err := r.br.ReadByte()
	return c, cutOff(err)
}

// cutOff names an end within a frame what it is.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendFrame appends a frame of ours that is not made by wire.AppendCounted.
func appendFrame(dst []byte, txnr uint32, command, data string) []byte {
	dst = append(strconv.AppendUint(dst, uint64(txnr), 10), ' ')
	dst = append(append(dst, command...), ' ')
	dst = strconv.AppendInt(dst, int64(len(data)), 10)
	if data != "" {
		dst = append(append(dst, ' '), data...)
	}
	return append(dst, '\n')
}
