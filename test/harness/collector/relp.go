package collector

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// A RELP frame is TXNR SP COMMAND SP DATALEN [SP DATA] LF; the client counts
// transactions from 1 to 999,999,999 and around, and every one of them is
// answered (librelp, doc/relp.html).
type relpFrame struct {
	txnr    int
	command string
	data    []byte
}

const maxTransaction = 999_999_999

// serveRELP is strict: the first violation ends the connection.
func serveRELP(s *session) error {
	out := bufio.NewWriter(s.conn)
	for next, opened := 1, false; ; next = next%maxTransaction + 1 {
		if s.in.Buffered() == 0 { // answers go out together, but none waits for the next message
			if err := out.Flush(); err != nil {
				return err
			}
		}
		f, err := readFrame(s)
		if err != nil {
			return err
		}
		if f.txnr != next {
			return fmt.Errorf("transaction %d where %d was due", f.txnr, next)
		}
		if opened != (f.command != "open") {
			return fmt.Errorf("command %q where open was due, or twice", f.command)
		}
		opened = true
		ended, err := answer(s, out, f)
		if err != nil || ended {
			return errors.Join(err, out.Flush())
		}
	}
}

// answer carries out one command.
func answer(s *session, out *bufio.Writer, f relpFrame) (ended bool, err error) {
	switch f.command {
	case "open":
		offers, err := open(f.data)
		if err != nil {
			return false, err
		}
		respond(out, f.txnr, offers)
	case "syslog":
		r, err := ParseSyslog(f.data)
		if err != nil {
			respond(out, f.txnr, "500 "+strings.ReplaceAll(err.Error(), "\n", " "))
			return true, err
		}
		s.record(r)
		respond(out, f.txnr, "200 OK")
	case "close":
		respond(out, f.txnr, "")
		_, _ = out.WriteString("0 serverclose 0\n")
		return true, nil
	default:
		respond(out, f.txnr, "500 unknown command")
		return true, fmt.Errorf("unknown command %q", f.command)
	}
	return false, nil
}

func respond(out *bufio.Writer, txnr int, data string) {
	if data == "" {
		_, _ = fmt.Fprintf(out, "%d rsp 0\n", txnr) // errors stay in the writer until Flush
		return
	}
	_, _ = fmt.Fprintf(out, "%d rsp %d %s\n", txnr, len(data), data)
}

// open reads what the client offers and makes the answer.
func open(data []byte) (string, error) {
	offers := make(map[string]string)
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		key, value, ok := strings.Cut(string(line), "=")
		if !ok {
			return "", fmt.Errorf("offer %q has no value", line)
		}
		offers[key] = value
	}
	if v := offers["relp_version"]; v != "0" && v != "1" {
		return "", fmt.Errorf("relp_version is %q", v)
	}
	if !strings.Contains(","+offers["commands"]+",", ",syslog,") {
		return "", fmt.Errorf("commands are %q, without syslog", offers["commands"])
	}
	return "200 OK\nrelp_version=0\nrelp_software=dockline-test-collector,1.0\ncommands=syslog", nil
}

func readFrame(s *session) (f relpFrame, err error) {
	if f.txnr, err = readNumber(s, ' '); err != nil {
		return f, err
	}
	for {
		b, err := s.in.ReadByte()
		if err != nil {
			return f, err
		}
		if b == ' ' {
			break
		}
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') || len(f.command) == 32 {
			return f, fmt.Errorf("%q in a command", b)
		}
		f.command += string(b)
	}
	length, end, err := dataLength(s)
	if err != nil {
		return f, err
	}
	if end == '\n' {
		if length != 0 {
			return f, fmt.Errorf("a frame of %d bytes without data", length)
		}
		return f, nil
	}
	if f.data, err = readExactly(s, length, maxMessage); err != nil {
		return f, err
	}
	if b, err := s.in.ReadByte(); err != nil || b != '\n' {
		return f, errors.Join(err, fmt.Errorf("%q where a frame has to end", b))
	}
	return f, nil
}

// dataLength reads DATALEN and the blank or newline after it.
func dataLength(s *session) (n int, end byte, err error) {
	for digits := 0; ; digits++ {
		b, err := s.in.ReadByte()
		switch {
		case err != nil:
			return 0, 0, err
		case digits > 0 && (b == ' ' || b == '\n'):
			return n, b, nil
		case b < '0' || b > '9' || digits == 9:
			return 0, 0, fmt.Errorf("%q in the length of a frame's data", b)
		}
		n = n*10 + int(b-'0')
	}
}
