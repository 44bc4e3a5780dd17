// Package redact takes out of text what may be a secret: of URLs, which are shown in
// one way everywhere (URL), and of whatever a person is about to send to others
// (Redactor). It would rather take too much.
package redact

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Mark stands where a secret was.
const Mark = "REDACTED"

// Redactor knows secrets by their place in a text, and those that it has learnt
// wherever they stand.
type Redactor struct{ known []string }

// minKnown is how long a value has to be to be replaced wherever it stands.
const minKnown = 5

const secretName = `(?:[a-z0-9_.-]*(?:pass(?:word|wd|phrase)?|secret|token|credential|private[_-]?key|api[_-]?key|access[_-]?key|authorization|cookie|jwt|nkey|seed|signature)[a-z0-9_.-]*|(?:header|query)\.[a-z0-9_.-]+|auth|sasl[a-z0-9_.-]*|pwd)`

var (
	pem      = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*-----.*?(?:-----END [A-Z0-9 ]*-----|$)`)
	userinfo = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)([^\s?#"'<>\\]*)@`)
	inList   = regexp.MustCompile(`,[a-zA-Z][a-zA-Z0-9+.-]*://`)
	// A value ends where a list, a URL, a quoted text or a line does.
	assigned = regexp.MustCompile(`(?i)("?)\b(` + secretName + `)\b("?\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s&,;"'}\]]+)`)
	scheme   = regexp.MustCompile(`(?i)\b(bearer|basic|splunk)\s+([a-z0-9._~+/=-]{6,})`)
	// Names whose values are files or switches, and say nothing by themselves.
	harmless = regexp.MustCompile(`(?i)(?:-file|_file|\.file|file|-command)$`)
)

var secretAlone = regexp.MustCompile(`(?i)^` + secretName + `$`)

// IsSecret reports whether the value that has this name may be a secret.
func IsSecret(name string) bool { return secretAlone.MatchString(name) }

// Learn takes note of the secrets in a text, so that they are found in others.
func (r *Redactor) Learn(text string) { places(text, r.LearnValue) }

// LearnValue takes note of one.
func (r *Redactor) LearnValue(secret string) {
	for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
		if len(form) >= minKnown && form != Mark && !slices.Contains(r.known, form) {
			r.known = append(r.known, form)
		}
	}
	if plain, err := url.QueryUnescape(secret); err == nil && len(plain) >= minKnown && !slices.Contains(r.known, plain) {
		r.known = append(r.known, plain)
	}
}

// Text returns the text without its secrets.
func (r *Redactor) Text(text string) string {
	text = places(text, func(string) {})
	slices.SortFunc(r.known, func(a, b string) int { return len(b) - len(a) }) // one may be part of another
	for _, s := range r.known {
		text = strings.ReplaceAll(text, s, Mark)
	}
	return text
}

// places replaces what stands where secrets do, and gives it to found.
func places(text string, found func(string)) string {
	text = pem.ReplaceAllString(text, Mark)
	text = userinfo.ReplaceAllStringFunc(text, func(m string) string {
		parts := userinfo.FindStringSubmatch(m)
		// Of a list, the last is meant: a password may have a comma, but no scheme.
		if at := inList.FindAllStringIndex(parts[2], -1); at != nil {
			last := at[len(at)-1]
			before := places(parts[1]+parts[2][:last[0]], found)
			return before + places(parts[2][last[0]:last[1]]+parts[2][last[1]:]+"@", found)
		}
		user, password, ok := strings.Cut(parts[2], ":")
		switch {
		case ok:
			found(password)
		case user != "…":
			found(user) // a token may stand there by itself
		}
		return parts[1] + Mark + "@"
	})
	text = scheme.ReplaceAllStringFunc(text, func(m string) string {
		parts := scheme.FindStringSubmatch(m)
		found(parts[2])
		return parts[1] + " " + Mark
	})
	return assigned.ReplaceAllStringFunc(text, func(m string) string {
		parts := assigned.FindStringSubmatch(m)
		if harmless.MatchString(parts[2]) {
			return m
		}
		value := parts[4]
		quote := ""
		if value[0] == '"' || value[0] == '\'' {
			quote, value = value[:1], value[1:len(value)-1]
		}
		if value == "" || plain(value) {
			return m
		}
		found(value)
		return parts[1] + parts[2] + parts[3] + quote + Mark + quote
	})
}

// plain are values that no secret has: switches and small numbers.
func plain(v string) bool {
	switch strings.ToLower(v) {
	case "true", "false", "on", "off", "yes", "no", "none", "null", "0", "1":
		return true
	}
	return v == Mark
}
