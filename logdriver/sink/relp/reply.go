package relp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Commands of RELP.
const (
	cmdOpen        = "open"
	cmdSyslog      = "syslog"
	cmdClose       = "close"
	cmdResponse    = "rsp"
	cmdServerClose = "serverclose"
)

// offers is what we tell the server at the opening.
const offers = "relp_version=1\nrelp_software=dockline\ncommands=" + cmdSyslog

const codeOK = "200"

// maxText bounds what of a server's text gets into an error.
const maxText = 256

// ErrServerClosed says that the server announced the end of the session.
var ErrServerClosed = errors.New("RELP server closed the session")

// ResponseError is a server's refusal of a frame.
type ResponseError struct {
	Txnr uint32
	Code string // three digits, not 200
	Text string // the server's own words, cut where they are many
}

func (e *ResponseError) Error() string {
	return fmt.Sprintf("RELP server answered frame %d with %s %q", e.Txnr, e.Code, e.Text)
}

// parseResponse splits a response's data:
//
//	3DIGIT [SP text] [LF more]
//
// and returns what is behind the first line, or a *ResponseError.
func parseResponse(f frame) (more []byte, err error) {
	line, more, _ := bytes.Cut(f.data, []byte{'\n'})
	code, text, _ := bytes.Cut(line, []byte{' '})
	if len(code) != 3 || !isDigits(code) {
		return nil, fmt.Errorf("%w: response %q", ErrFrame, line[:min(len(line), maxText)])
	}
	if string(code) != codeOK {
		return nil, &ResponseError{Txnr: f.txnr, Code: string(code), Text: string(text[:min(len(text), maxText)])}
	}
	return more, nil
}

func isDigits(s []byte) bool {
	return !slices.ContainsFunc(s, func(c byte) bool { return c < '0' || c > '9' })
}

// checkOffers looks whether the server can do what we need. Servers offer
// version 0 or 1, which differ in nothing that concerns us; one that does not
// name its version is taken for such.
func checkOffers(data []byte) error {
	canSyslog := false
	for line := range strings.Lines(string(data)) {
		feature, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch feature {
		case "relp_version":
			if value != "0" && value != "1" {
				return fmt.Errorf("RELP server offers version %.32q, want 0 or 1", value)
			}
		case "commands":
			canSyslog = slices.Contains(strings.Split(value, ","), cmdSyslog)
		}
	}
	if !canSyslog {
		return errors.New("RELP server does not offer the syslog command")
	}
	return nil
}
