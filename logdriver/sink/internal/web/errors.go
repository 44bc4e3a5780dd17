package web

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/ship"
)

// slowly is for how long a collector is left alone that has to be set up first,
// or we have.
const slowly = 30 * time.Second

// maxSaid bounds what is told of an answer, in bytes.
const maxSaid = 300

// Error is why a collector did not take a batch.
type Error struct {
	Said   string // by the collector
	Advice string // what to do about it; may be empty
	Busy   bool   // it takes nothing for now
	After  time.Duration
}

func (e *Error) Error() string {
	if e.Advice == "" {
		return "collector answers " + e.Said
	}
	return "collector answers " + e.Said + ": " + e.Advice
}

// Is says that a busy collector's error is ship.ErrBusy.
func (e *Error) Is(target error) bool { return target == ship.ErrBusy && e.Busy }

// RetryAfter is for how long the collector is to be left alone, 0 if that is
// not known.
func (e *Error) RetryAfter() time.Duration { return e.After }

// Misfit is the error of a collector that will take nothing until somebody has
// changed something.
func Misfit(said, advice string) *Error { return &Error{Said: said, Advice: advice, After: slowly} }

// Trouble is the error of a collector that may take the same later.
func Trouble(said string) *Error { return &Error{Said: said} }

// outcome is what the status of an answer means for a batch.
type outcome int

const (
	taken   outcome = iota
	refused         // for what is in it
	failed          // with an error
)

// judged is the answer without what is HTTP's.
func (r *reply) judged(c *Collector) *Reply {
	j := &Reply{Body: r.body, Said: r.said(), After: r.after}
	outcome, err := r.outcome(c.path)
	if slices.Contains(c.spec.Final, r.status) {
		outcome, j.Doubtful = refused, true
	}
	switch outcome {
	case refused:
		j.Class, j.Smaller = r.class(), r.status == http.StatusRequestEntityTooLarge
	case failed:
		j.Err = err
	}
	return j
}

// outcome returns the error for failed.
func (r *reply) outcome(path string) (outcome, error) {
	switch r.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return refused, nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return failed, &Error{Said: r.said(), Busy: true, After: r.after}
	case http.StatusRequestTimeout:
		return failed, Trouble(r.said())
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return failed, Misfit(r.said(), "it wants another user, password or key than the collector's URL names, or any at all")
	case http.StatusForbidden:
		return failed, Misfit(r.said(), "the user or key of the collector's URL is not allowed to write there")
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return failed, Misfit(r.said(), fmt.Sprintf("nothing takes records at %s there: is the path of the collector's URL the right one?", withoutQuery(path)))
	case http.StatusUnsupportedMediaType:
		return failed, Misfit(r.said(), "it does not take this format, or not compressed: see compress and the path in the collector's URL")
	}
	switch {
	case r.status >= 200 && r.status < 300:
		return taken, nil
	case r.status >= 300 && r.status < 400:
		return failed, Misfit(r.said(), "it points elsewhere, where records are not sent: name that place in the collector's URL")
	case r.status >= 500:
		e := Trouble(r.said())
		e.After = r.after
		return failed, e
	}
	return failed, Misfit(r.said(), "the collector's URL does not fit this collector")
}

// withoutQuery is for people: what is behind the path may be secret.
func withoutQuery(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// class is the kind of reason of a refused batch of one.
func (r *reply) class() string {
	if r.status == http.StatusRequestEntityTooLarge {
		return TooLarge
	}
	return Invalid
}

// said is the status and the beginning of what follows it, on one line.
func (r *reply) said() string {
	text := strconv.Itoa(r.status) + " " + http.StatusText(r.status)
	if body := Clean(r.body); body != "" {
		text += ": " + body
	}
	return r.hide(text)
}

// Clean returns text of a collector's for people: one line of bounded length.
func Clean(b []byte) string {
	cut := len(b) > maxSaid
	if cut {
		b = b[:maxSaid]
		for len(b) > 0 && !utf8.RuneStart(b[len(b)-1]) {
			b = b[:len(b)-1]
		}
		b = b[:max(0, len(b)-1)]
	}
	b = bytes.ToValidUTF8(b, []byte("\ufffd"))
	s := strings.Join(strings.FieldsFunc(string(b), func(c rune) bool { return c <= ' ' || c == 0x7f }), " ")
	if cut {
		s += "…"
	}
	return s
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
