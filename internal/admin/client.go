package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// maxAnswer bounds what is read of one, in bytes.
const maxAnswer = 256 << 20

// RefusedError is what a plugin answered instead of what it was asked for.
type RefusedError struct {
	Code int // the HTTP status
	Text string
	// Unknown says that the plugin does not know such a call: it may be of another
	// version.
	Unknown bool
}

func (e *RefusedError) Error() string { return e.Text }

// Get asks the plugin behind a socket and copies its answer to w. The error is
// a *RefusedError where it answered with one.
func Get(ctx context.Context, socket, path string, w io.Writer) error {
	return ask(ctx, http.MethodGet, socket, path, w)
}

// Post is Get for what changes something.
func Post(ctx context.Context, socket, path string, w io.Writer) error {
	return ask(ctx, http.MethodPost, socket, path, w)
}

// unanswered says why nobody answered on a socket, as far as that is known.
func unanswered(socket string, err error) error {
	if of := new(url.Error); errors.As(err, &of) {
		err = of.Err // which names no socket
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody answers on %s: the plugin is about to start, or ends again and again; docker plugin ls and the engine's log say more", socket)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no socket %s: is the plugin enabled?", socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("only root reaches %s", socket)
	}
	return fmt.Errorf("ask the plugin on %s: %w", socket, err)
}

func ask(ctx context.Context, method, socket, path string, w io.Writer) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://plugin"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the plugin: %w", err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return unanswered(socket, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(res.Body, 4096))
		if err != nil {
			return fmt.Errorf("read the plugin's answer: %w", err)
		}
		return &RefusedError{res.StatusCode, strings.TrimSpace(string(text)), res.StatusCode == http.StatusNotFound && res.Header.Get(answered) == ""}
	}
	n, err := io.Copy(w, io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the plugin's answer: %w", err)
	}
	if n > maxAnswer {
		return fmt.Errorf("read the plugin's answer: it is larger than %d bytes", maxAnswer)
	}
	return nil
}
