package web

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/redact"
)

// leastSecret is how long a value has to be to be hidden in what a collector says.
const leastSecret = 5

// Hide returns what a collector says without what we have shown it to log in:
// some repeat that in their errors.
func Hide(said string, header http.Header, path string) string {
	return redact.Values(said, secrets(header, path)...)
}

func secrets(header http.Header, path string) (all []string) {
	add := func(s string) {
		if len(s) >= leastSecret && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for name, values := range header {
		switch name {
		case "Content-Type", "Content-Encoding", "User-Agent":
			continue
		}
		for _, v := range values {
			add(v)
			kind, token, _ := strings.Cut(v, " ")
			add(token)
			if raw, err := base64.StdEncoding.DecodeString(token); err == nil && kind == "Basic" {
				_, password, _ := strings.Cut(string(raw), ":")
				add(password)
			}
		}
	}
	_, query, _ := strings.Cut(path, "?")
	if values, err := url.ParseQuery(query); err == nil {
		for _, list := range values {
			for _, v := range list {
				add(v)
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) }) // one may be part of another
	return all
}

// Exposed says which secret the collector gets without encryption, "" for none.
func (c *Collector) Exposed() string {
	switch {
	case c.login.file != "":
		return c.Target.Exposed("what " + c.login.key + " names")
	case c.login.password != "":
		return c.Target.Exposed("the password of the collector's URL")
	}
	for key := range c.Params {
		if redact.IsSecret(strings.TrimPrefix(strings.TrimPrefix(key, "header."), "query.")) && !strings.HasSuffix(key, "-file") {
			return c.Target.Exposed("the value of " + key)
		}
	}
	return ""
}
