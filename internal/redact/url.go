package redact

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// hidden stands where a part of a URL was.
const hidden = "…"

// URL returns a URL for people: without its user's password (or without its user,
// where that has none: it may be a token) and without its parameters' values, of
// which any but a collector's name and weight may be a secret. Errors, logs, metrics and answers to operators show
// URLs in this way alone.
func URL(u *url.URL) string {
	bare := *u
	bare.User, bare.RawQuery, bare.ForceQuery, bare.Fragment, bare.RawFragment = nil, "", false, "", ""
	if Ambiguous(u) {
		return u.Scheme + "://" + hidden
	}
	text := bare.String()
	if u.Opaque != "" {
		return u.Scheme + ":" + hidden
	}
	if u.User != nil {
		user := hidden
		if _, has := u.User.Password(); has || u.Query().Has("password-file") {
			user = u.User.Username()
			if has {
				user += ":" + hidden
			}
		}
		text = strings.Replace(text, "://", "://"+user+"@", 1)
	}
	if names := parameters(u.RawQuery); names != "" {
		text += "?" + names
	}
	return text
}

// Ambiguous reports whether what looks like a host may be a user, and the beginning
// of a password that has a slash, a question mark or a number sign.
func Ambiguous(u *url.URL) bool {
	return u.User == nil && strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@")
}

// ErrAmbiguous is the error about such a URL.
var ErrAmbiguous = errors.New("there is an @ behind the host: in a user or password / is written %2F, ? %3F and # %23, and elsewhere @ is written %40")

// parameters returns a query with the names alone.
func parameters(query string) string {
	var names []string
	for part := range strings.SplitSeq(query, "&") {
		name, _, has := strings.Cut(part, "=")
		switch {
		case part == "":
			continue
		case name == "name" || name == "weight":
			name = part
		case has:
			name += "=" + hidden
		default:
			name = hidden // it may be the rest of a value
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "&")
}

var (
	schemeOnly = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
	harmlessly = regexp.MustCompile(`^[A-Za-z0-9+.:/\[\]_-]*$`)
)

// Entry is URL for an entry of a list of URLs that may be none: then it shows the
// scheme, the host if it is certain which part that is, and all of it where the
// list has no place for a secret.
func Entry(text, list string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if ok && schemeOnly.MatchString(scheme) && !tornApart(list) {
		if u, err := url.Parse(text); err == nil {
			return URL(u)
		}
	}
	switch user, host, has := cutLast(rest, "@"); {
	case !strings.ContainsAny(list, "@=") && harmlessly.MatchString(text):
		return text
	case !ok || !schemeOnly.MatchString(scheme):
		return hidden
	case has && !strings.ContainsAny(user, "?#") && !tornApart(list):
		host, _, _ = strings.Cut(host, "?")
		host, _, _ = strings.Cut(host, "#")
		return scheme + "://" + hidden + "@" + host
	}
	return scheme + "://" + hidden
}

// tornApart reports whether a password in a list may have a comma or a space, at
// which the list parts.
func tornApart(list string) bool {
	for _, text := range strings.FieldsFunc(list, parts) {
		if strings.Contains(text, "@") && !strings.Contains(text, "://") {
			return true
		}
	}
	return false
}

func parts(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }

func cutLast(s, sep string) (before, after string, found bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(sep):], true
}

// List is Entry for URLs parted by commas or white space.
func List(list string) string {
	all := strings.FieldsFunc(list, parts)
	for i := range all {
		all[i] = Entry(all[i], list)
	}
	return strings.Join(all, ",")
}

// NotURL says why a text is no URL. What url.Parse says repeats parts of it, and
// a password in which a character is not written as a URL wants it is one of them.
func NotURL(err error) error {
	var escape url.EscapeError
	if errors.As(err, &escape) {
		return errors.New("not a URL: a % in it is not followed by two hexadecimal digits; in a user or password it is written %25")
	}
	return errors.New("not a URL: in a user, password or value each of :/?#[]@,& and % is written as % and two hexadecimal digits (a / as %2F), an IPv6 address stands in [], a port is a number")
}

// NotQuery is NotURL for url.ParseQuery.
func NotQuery(err error) error {
	var escape url.EscapeError
	if errors.As(err, &escape) {
		return NotURL(err)
	}
	return err // it is about a semicolon, and repeats nothing
}

// Values takes what is known to be secret out of a text, however short it is, and
// in each form that it may have there.
func Values(text string, secrets ...string) string {
	for _, s := range secrets {
		quoted := strconv.Quote(s)
		for _, form := range []string{url.QueryEscape(s), url.PathEscape(s), quoted[1 : len(quoted)-1], s} {
			if form != "" {
				text = strings.ReplaceAll(text, form, hidden)
			}
		}
	}
	return text
}

// Repeated takes secrets out of what a peer says that was shown them. Those of fewer
// than five bytes stay, for they may be parts of anything. Do it before a text is cut.
func Repeated(said string, secrets ...string) string {
	secrets = slices.DeleteFunc(slices.Clone(secrets), func(s string) bool { return len(s) < minKnown })
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // one may be part of another
	return Values(said, secrets...)
}

// Error is Repeated for an error's text.
func Error(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	if text := Repeated(err.Error(), secrets...); text != err.Error() {
		return &withoutSecrets{err, text}
	}
	return err
}

type withoutSecrets struct {
	error
	text string
}

func (w *withoutSecrets) Error() string { return w.text }

func (w *withoutSecrets) Unwrap() error { return w.error }
