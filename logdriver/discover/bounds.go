package discover

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dockline/dockline/internal/loopback"
)

// What others say is bounded before it is kept: who controls a Consul, an etcd or a
// name server is not to decide how much memory the plugin uses. An answer over a
// bound is a failure, and what was said before stays.
const (
	// maxAnswer is of one answer of Consul or etcd, in bytes. A configuration of
	// 1 MiB is less, also as base64 in JSON.
	maxAnswer = 8 << 20
	// maxHeaders is of what goes before it, in bytes.
	maxHeaders = 64 << 10
	// maxMembers is how many collectors a source may name: as many addresses as fit
	// into an answer of the DNS.
	maxMembers = 4096
	// maxSaid is of an error's text, in which others may have their say, in bytes.
	maxSaid = 1 << 10
)

func tooMany(n int) error {
	return fmt.Errorf("it names %d collectors, more than the %d that a source may have", n, maxMembers)
}

// errTooLarge is the end of an answer.
var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)

// bounded is a transport whose answers have an end, and that goes nowhere else:
// a redirection would take the token along.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified {
		_ = res.Body.Close()
		return nil, fmt.Errorf("it answers %s and points elsewhere, which is not followed: name that place", res.Status)
	}
	if res.ContentLength > maxAnswer {
		_ = res.Body.Close()
		return nil, errTooLarge
	}
	res.Body = &limitedBody{ReadCloser: res.Body, left: maxAnswer}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	left int
}

func (l *limitedBody) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, errTooLarge
	}
	n, err := l.ReadCloser.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// shortened is an error whose text is cut.
type shortened struct {
	error
	text string
}

func (s *shortened) Error() string { return s.text }

func (s *shortened) Unwrap() error { return s.error }

// short returns the error with a text of bounded length, on one line.
func short(err error) error {
	text := err.Error()
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text[:min(len(text), maxSaid)])
	if line == text {
		return err
	}
	if len(text) > maxSaid {
		for len(line) > 0 && !utf8.ValidString(line) {
			line = line[:len(line)-1]
		}
		line += "…"
	}
	return &shortened{err, strings.TrimSpace(line)}
}

// Exposed says which secret goes to where a source or a document is kept without
// encryption, and what to do about it; "" where there is none.
func Exposed(of any) string {
	if e, ok := of.(interface{ exposed() string }); ok {
		return e.exposed()
	}
	return ""
}

func (c *consulClient) exposed() string {
	if c.tokenFile == "" || c.conf.Scheme == "https" || loopback.Is(c.address) {
		return ""
	}
	return fmt.Sprintf("the token of consul-token-file goes to %s unencrypted, for everybody to read who is between: say consul-tls=on", c.address)
}

func (e *etcdClient) exposed() string {
	if e.user == "" || e.ca != "" {
		return ""
	}
	for _, h := range e.hosts {
		if !loopback.Is(h) {
			return fmt.Sprintf("the password of etcd-user goes to %s unencrypted, for everybody to read who is between: say etcd-ca", h)
		}
	}
	return ""
}

var errNoCertificate = errors.New("holds no certificate in PEM form")
