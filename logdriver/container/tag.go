package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// tagFuncs are the functions that the engine gives to tag templates (moby
// daemon/logger/templates).
var tagFuncs = template.FuncMap{
	"json":     asJSON,
	"split":    strings.Split,
	"join":     strings.Join,
	"title":    strings.Title, //nolint:staticcheck // it is what the engine does
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"pad":      pad,
	"truncate": truncate,
}

func asJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}

func pad(s string, before, after int) string {
	if s == "" || before < 0 || after < 0 || before+after > maxTag {
		return s
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}

func truncate(s string, n int) string {
	if r := []rune(s); n >= 0 && n < len(r) {
		return string(r[:n])
	}
	return s
}

func expandTag(info *Info, text string) (string, error) {
	if text == "" {
		text = defaultTag
	}
	t, err := template.New("tag").Funcs(tagFuncs).Parse(text)
	if err != nil {
		return "", fmt.Errorf("not a template: %w", err)
	}
	var b tagWriter
	if err := t.Execute(&b, info); errors.Is(err, errLongTag) {
		return "", errLongTag
	} else if err != nil {
		return "", fmt.Errorf("expand the template: %w", err)
	}
	return b.text.String(), nil
}

var errLongTag = fmt.Errorf("expands to more than %d bytes", maxTag)

// tagWriter ends a template that expands to too much while it does: templates can
// call each other, and so expand to more than there is memory.
type tagWriter struct{ text strings.Builder }

func (w *tagWriter) Write(p []byte) (int, error) {
	if w.text.Len()+len(p) > maxTag {
		return 0, errLongTag
	}
	return w.text.Write(p)
}
