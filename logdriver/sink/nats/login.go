package nats

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// login is how we say who we are, if at all. The file is read at every Dial.
type login struct {
	user, password string
	key, file      string // the parameter and the file that it names; "" for none
}

func parseLogin(t *wire.Target) (login, error) {
	var l login
	given := 0
	for _, key := range []string{"password-file", "token-file", "nkey-file", "creds-file"} {
		name, ok := t.Params[key]
		if !ok {
			continue
		}
		given++
		l.key, l.file = key, name
		if err := t.Host.CheckName(name); err != nil {
			return l, &options.ValueError{What: wire.ParamKind, Key: key, Value: name, Err: err}
		}
	}
	set := false
	if t.User != nil {
		l.user = t.User.Username()
		l.password, set = t.User.Password()
	}
	switch {
	case given > 1:
		return l, errors.New("of password-file, token-file, nkey-file and creds-file only one can be given")
	case given == 1 && l.key != "password-file" && t.User != nil:
		return l, fmt.Errorf("%s and a user before the host exclude each other", l.key)
	case l.key == "password-file" && (l.user == "" || set):
		return l, errors.New("password-file wants a user before the host, without a password: user@host")
	case t.User != nil && !set && l.file == "":
		return l, errors.New("the user before the host has no password: give password-file, or user:password@host; a token goes into token-file")
	}
	return l, nil
}

// show fills in what shows who we are. The server has asked to sign nonce, if it
// can check signatures.
func (l *login) show(host sink.Host, nonce string, c *connect) error {
	c.User, c.Pass = l.user, l.password
	if l.file == "" {
		return nil
	}
	data, err := host.ReadFile(l.file)
	if err != nil {
		return fmt.Errorf("%s: %w", l.key, err)
	}
	switch l.key {
	case "password-file":
		c.Pass, err = secret(data)
	case "token-file":
		c.Token, err = secret(data)
	default:
		err = l.sign(data, nonce, c)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", l.key, l.file, err)
	}
	return nil
}

func secret(data []byte) (string, error) {
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", errors.New("it holds no line of text")
	}
	return text, nil
}

// sign is for an nkey's seed, alone or behind a JWT.
func (l *login) sign(data []byte, nonce string, c *connect) error {
	pair, err := nkeys.ParseDecoratedUserNKey(data)
	if err != nil {
		return fmt.Errorf("no seed of a user's nkey: %w", err)
	}
	defer pair.Wipe()
	if l.key == "creds-file" {
		if c.JWT, err = nkeys.ParseDecoratedJWT(data); err != nil {
			return fmt.Errorf("no JWT: %w", err)
		}
	} else if c.NKey, err = pair.PublicKey(); err != nil {
		return err
	}
	if nonce == "" {
		return errors.New("the server asks for no signature: it knows neither nkeys nor JWTs")
	}
	signed, err := pair.Sign([]byte(nonce))
	if err != nil {
		return err
	}
	c.Signature = base64.RawURLEncoding.EncodeToString(signed)
	return nil
}

// Exposed says which secret the servers get without encryption, "" for none: nkeys
// show none.
func (c *cluster) Exposed() string {
	for _, t := range c.servers {
		what := ""
		switch {
		case c.login.password != "":
			what = t.Exposed("the password of the collector's URL")
		case c.login.key == "password-file" || c.login.key == "token-file":
			what = t.Exposed("what " + c.login.key + " names")
		}
		if what != "" {
			return what
		}
	}
	return ""
}
