package web

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// login is how we say who we are. Files are read at every connection.
type login struct {
	user, password string
	scheme         string // of the header, in the place of a user
	key, file      string // the parameter and the file that it names; "" for none
}

func parseLogin(t *wire.Target, apiKey string) (login, error) {
	var l login
	given := 0
	for _, kind := range []struct{ key, scheme string }{{"password-file", ""}, {"token-file", "Bearer"}, {"api-key-file", apiKey}} {
		name, ok := t.Params[kind.key]
		if !ok {
			continue
		}
		given++
		l.key, l.file, l.scheme = kind.key, name, kind.scheme
		if err := t.Host.CheckName(name); err != nil {
			return l, &options.ValueError{What: wire.ParamKind, Key: kind.key, Value: name, Err: err}
		}
	}
	set := false
	if t.User != nil {
		l.user = t.User.Username()
		l.password, set = t.User.Password()
	}
	switch {
	case given > 1:
		return l, errors.New("of password-file, token-file and api-key-file only one can be given")
	case l.scheme != "" && t.User != nil:
		return l, fmt.Errorf("%s and a user before the host exclude each other", l.key)
	case l.key == "password-file" && (l.user == "" || set):
		return l, errors.New("password-file wants a user before the host, without a password: user@host")
	case strings.Contains(l.user, ":"):
		return l, errors.New("a user's name has no colon")
	case t.User != nil && !set && l.file == "":
		return l, errors.New("the user before the host has no password: give password-file, or user:password@host")
	}
	return l, nil
}

// header returns the value of Authorization, "" for none.
func (l *login) header(host sink.Host) (string, error) {
	secret := l.password
	if l.file != "" {
		data, err := host.ReadFile(l.file)
		if err != nil {
			return "", fmt.Errorf("%s: %w", l.key, err)
		}
		secret = strings.TrimRight(string(data), "\r\n")
		if secret == "" || !httpguts.ValidHeaderFieldValue(secret) {
			return "", fmt.Errorf("%s: %s holds no line of text", l.key, l.file)
		}
	}
	switch {
	case l.scheme != "":
		return l.scheme + " " + secret, nil
	case l.user != "" || secret != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(l.user+":"+secret)), nil
	}
	return "", nil
}
