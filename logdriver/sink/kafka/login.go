package kafka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// login is how we say who we are, if at all. The file is read at every Dial.
type login struct {
	mechanism      string // "" for none
	user, password string
	file           string // with the password, "" where the URL has it
}

func parseLogin(t *wire.Target) (login, error) {
	l := login{file: t.Params["password-file"]}
	mechanism, err := t.Choice("sasl", "scram-sha-512", "scram-sha-256", "plain")
	if err != nil {
		return l, err
	}
	set := false
	if t.User != nil {
		l.mechanism, l.user = mechanism, t.User.Username()
		l.password, set = t.User.Password()
	}
	if l.file != "" {
		if err := t.Host.CheckName(l.file); err != nil {
			return l, &options.ValueError{What: wire.ParamKind, Key: "password-file", Value: l.file, Err: err}
		}
	}
	_, asked := t.Params["sasl"]
	switch {
	case l.user == "" && (asked || l.file != "" || set):
		return l, errors.New("sasl and password-file want a user before the host: user@host")
	case set && l.file != "":
		return l, errors.New("password-file wants a user before the host without a password: user@host")
	case l.user != "" && !set && l.file == "":
		return l, errors.New("the user before the host has no password: give password-file, or user:password@host")
	}
	return l, nil
}

// secret is the password as it is now.
func (l *login) secret(host sink.Host) (string, error) {
	if l.file == "" {
		return l.password, nil
	}
	data, err := host.ReadFile(l.file)
	if err != nil {
		return "", fmt.Errorf("password-file: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("password-file: %s holds no line of text", l.file)
	}
	return secret, nil
}

// with returns the mechanism with a password, nil for none.
func (l *login) with(secret string) sasl.Mechanism {
	switch l.mechanism {
	case "plain":
		return plain.Auth{User: l.user, Pass: secret}.AsMechanism()
	case "scram-sha-256":
		return scram.Auth{User: l.user, Pass: secret}.AsSha256Mechanism()
	case "scram-sha-512":
		return scram.Auth{User: l.user, Pass: secret}.AsSha512Mechanism()
	}
	return nil // nobody asks who we are
}

// Exposed says which secret the brokers get without encryption, "" for none: SCRAM
// shows none.
func (c *cluster) Exposed() string {
	if c.login.mechanism != "plain" {
		return ""
	}
	return c.Target.Exposed("the password, by sasl=plain,")
}
