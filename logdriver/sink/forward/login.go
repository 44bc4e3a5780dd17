package forward

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// maxText bounds what of a server's text gets into an error.
const maxText = 256

// RefusedError is a server's refusal of what we have shown.
type RefusedError struct{ Reason string } // the server's own words, cut where they are many

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the server refuses us, %q: look at shared-key-file, user and password-file, and at the server's list of clients", e.Reason)
}

// login is what a server may ask for.
type login struct {
	hostname string
	key      []byte
	user     string
	password []byte
}

// login reads the files, nil where there are none.
func (c *collector) login() (*login, error) {
	if c.key == "" {
		return nil, nil
	}
	l := &login{user: c.user}
	var err error
	if l.hostname, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("ask for the host's name: %w", err)
	}
	if l.key, err = c.secret("shared-key-file", c.key); err == nil && c.password != "" {
		l.password, err = c.secret("password-file", c.password)
	}
	return l, err
}

// secret reads a file, without the line feed at its end.
func (c *collector) secret(param, name string) ([]byte, error) {
	data, err := c.Host.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", param, err)
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		return nil, fmt.Errorf("%s: %s is empty", param, name)
	}
	return data, nil
}

// greet answers HELO with PING, and looks at PONG.
func (c *conn) greet(ctx context.Context, l *login) error {
	stop := context.AfterFunc(ctx, func() { _ = c.link.SetReadDeadline(time.Unix(1, 0)) })
	err := c.exchange(ctx, l)
	if !stop() {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

func (c *conn) exchange(ctx context.Context, l *login) error {
	object, err := c.replies.next()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the server does not greet: if it asks for no shared key, leave out shared-key-file")
	}
	if err != nil {
		return fmt.Errorf("read HELO: %w", err)
	}
	h, err := parseHello(object)
	if err != nil {
		return err
	}
	if h.asksUser && l.user == "" {
		return errors.New("the server asks for a user: give user and password-file")
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never an error
	salt := hex.EncodeToString(random[:])
	if err := wire.WriteAll(ctx, c.link, l.ping(h, salt)); err != nil {
		return wire.Reason(c.link, err)
	}
	if object, err = c.replies.next(); err != nil {
		return fmt.Errorf("read PONG: %w", err)
	}
	return l.checkPong(object, h, salt)
}

// hello is what a server says first.
type hello struct {
	nonce, auth []byte
	asksUser    bool
}

// parseHello reads ["HELO", {nonce, auth, keepalive}].
func parseHello(object []byte) (h hello, err error) {
	kind, rest, err := parseArray(object)
	if err != nil {
		return h, err
	}
	if kind != kindHello {
		return h, fmt.Errorf("%w: %.40q instead of HELO", ErrReply, kind)
	}
	n, rest, err := msgp.ReadMapHeaderBytes(rest)
	keepalive := true
	for range n {
		var key []byte
		if key, rest, err = readText(rest); err != nil {
			break
		}
		switch string(key) {
		case "nonce":
			h.nonce, rest, err = readText(rest)
		case "auth":
			h.auth, rest, err = readText(rest)
		case "keepalive":
			keepalive, rest, err = msgp.ReadBoolBytes(rest)
		default:
			rest, err = msgp.Skip(rest)
		}
		if err != nil {
			break
		}
	}
	if err != nil {
		return h, fmt.Errorf("%w: HELO: %w", ErrReply, err)
	}
	if !keepalive {
		return h, errors.New("the server wants a connection for each chunk, which is not worth while: set keepalive to true there (deny_keepalive to false)")
	}
	// The next object overwrites this one.
	h.nonce, h.auth, h.asksUser = bytes.Clone(h.nonce), bytes.Clone(h.auth), len(h.auth) > 0
	return h, nil
}

// ping is ["PING", hostname, salt, digest, user, password digest].
func (l *login) ping(h hello, salt string) []byte {
	dst := msgp.AppendArrayHeader(nil, 6)
	for _, s := range []string{kindPing, l.hostname, salt, digest([]byte(salt), []byte(l.hostname), h.nonce, l.key)} {
		dst = msgp.AppendString(dst, s)
	}
	if !h.asksUser {
		return msgp.AppendString(msgp.AppendString(dst, ""), "")
	}
	return msgp.AppendString(msgp.AppendString(dst, l.user), digest(h.auth, []byte(l.user), l.password))
}

// checkPong reads ["PONG", accepted, reason, hostname, digest]. The digest shows
// that the server knows the key, too.
func (l *login) checkPong(object []byte, h hello, salt string) error {
	kind, rest, err := parseArray(object)
	if err != nil {
		return err
	}
	if kind != kindPong {
		return fmt.Errorf("%w: %.40q instead of PONG", ErrReply, kind)
	}
	accepted, rest, err := msgp.ReadBoolBytes(rest)
	var texts [3][]byte
	for i := range texts {
		if err == nil {
			texts[i], rest, err = readText(rest)
		}
		if i == 0 && err == nil && !accepted {
			return &RefusedError{Reason: string(texts[0][:min(len(texts[0]), maxText)])}
		}
	}
	if err != nil {
		return fmt.Errorf("%w: PONG: %w", ErrReply, err)
	}
	want := digest([]byte(salt), texts[1], h.nonce, l.key)
	if subtle.ConstantTimeCompare([]byte(want), texts[2]) != 1 {
		return errors.New("the server does not know the shared key: it may be another than the one that is meant")
	}
	return nil
}

func digest(parts ...[]byte) string {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p) // never an error
	}
	return hex.EncodeToString(h.Sum(nil))
}
