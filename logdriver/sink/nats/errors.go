package nats

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
)

const (
	// slowly is for how long servers are left alone that have to be set up first, or
	// we have.
	slowly = 30 * time.Second
	// soon is for what passes by itself mostly: a stream's servers elect a leader.
	soon = 2 * time.Second
)

// ErrProtocol says that what is at the other end does not speak NATS, or not as it
// should.
var ErrProtocol = errors.New("not what a NATS server says")

// Error is why a server did not take something.
type Error struct {
	Said   string // by the server
	Advice string // what to do about it; may be empty
	Busy   bool   // it takes nothing for now
	After  time.Duration
}

func (e *Error) Error() string {
	if e.Advice == "" {
		return "server says " + e.Said
	}
	return "server says " + e.Said + ": " + e.Advice
}

// Is says that a busy server's error is ship.ErrBusy.
func (e *Error) Is(target error) bool { return target == ship.ErrBusy && e.Busy }

// RetryAfter is for how long the server is to be left alone.
func (e *Error) RetryAfter() time.Duration { return e.After }

// refusal is what -ERR says, while we log in and afterwards.
func refusal(text string, loggingIn bool) error {
	e := &Error{Said: text}
	switch {
	case strings.HasPrefix(text, permissions):
		e.After = slowly
		e.Advice = "the user of the collector's URL has to be allowed to publish to its subject, and to subscribe to the inbox (inbox=, _INBOX unless set)"
	case loggingIn:
		e.After = slowly
		e.Advice = "look at the user, password-file, token-file, nkey-file or creds-file of the collector's URL, and at the server's users"
	}
	return e
}

// permissions is how the server begins when it does not let us publish or
// subscribe; it drops what is not allowed and goes on.
const permissions = "'Permissions Violation"

// Codes of JetStream's errors (server/errors.json).
const (
	codeMessageTooLarge = 10054 // for the stream
	statusBusy          = 429
	statusUnavailable   = 503
)

// apiError is the answer of a stream that did not take a message.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// errTooLarge ends a connection: on the next one, messages are smaller.
var errTooLarge = errors.New("the stream takes no message of that size (max_msg_size): larger lines are sent in pieces from now on")

func (e *apiError) err() error {
	said := fmt.Sprintf("%q (%d)", e.Description, e.ErrCode)
	switch {
	case e.ErrCode == codeMessageTooLarge:
		return errTooLarge
	case e.Code == statusBusy, e.Code == statusUnavailable:
		return &Error{Said: said, Busy: true, Advice: "the stream is full (max_bytes, max_msgs with discard=new), or its servers are out of room or have too much to do"}
	}
	return &Error{Said: said, After: slowly, Advice: "the stream takes nothing as it is set up"}
}
