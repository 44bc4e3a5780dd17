// Package format prints what commands found, in the forms that the docker command
// has: a table, a table of fields that the user names, JSON, or a Go template.
package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode/utf8"
)

// Help is what --format takes, for help texts.
const Help = `Format output: "table", "table TEMPLATE", "json" or a Go TEMPLATE`

// HelpOne is what it takes for one thing.
const HelpOne = `Format output: "json" or a Go TEMPLATE`

// List prints rows, which are structs whose fields are as they are shown. A field's
// tag header is its column; one with the option wide is in no table by itself.
func List[T any](w io.Writer, format string, rows []T) error {
	kind := reflect.TypeFor[T]()
	text, isTable := strings.CutPrefix(format, "table")
	switch text = strings.TrimSpace(text); {
	case format == "" || isTable && text == "":
		text, isTable = defaultTable(kind), true
	case !isTable && format == "json":
		text = "{{json .}}"
	case !isTable:
		text = format
	}
	t, err := parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if isTable {
		head, err := t.Clone()
		if err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		if err := execute(head.Funcs(headerFunctions), &b, headers(kind)); err != nil {
			return err
		}
	}
	for _, row := range rows {
		if err := execute(t, &b, row); err != nil {
			return err
		}
	}
	if !isTable {
		_, err := b.WriteTo(w)
		return err
	}
	table := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	if _, err := b.WriteTo(table); err != nil {
		return err
	}
	return table.Flush()
}

// One prints one thing: as text does where no format is given.
func One(w io.Writer, format string, v any, text func(io.Writer) error) error {
	switch format {
	case "", "table":
		return text(w)
	case "json":
		format = "{{json .}}"
	}
	t, err := parse(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := execute(t, &b, v); err != nil {
		return err
	}
	_, err = b.WriteTo(w)
	return err
}

func execute(t *template.Template, b *bytes.Buffer, v any) error {
	if err := t.Execute(b, v); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	b.WriteByte('\n')
	return nil
}

func defaultTable(kind reflect.Type) string {
	var columns []string
	for f := range kind.Fields() {
		if h := f.Tag.Get("header"); h != "" && !strings.HasSuffix(h, ",wide") {
			columns = append(columns, "{{_cell ."+f.Name+"}}")
		}
	}
	return strings.Join(columns, "\t")
}

func headers(kind reflect.Type) map[string]string {
	all := map[string]string{}
	for f := range kind.Fields() {
		h, _, _ := strings.Cut(f.Tag.Get("header"), ",")
		all[f.Name] = h
	}
	return all
}

// parse reads a template, in which \t and \n may be written as such.
func parse(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("").Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--format: %w", err)
	}
	return t, nil
}

// functions are those that the docker command has.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		err := enc.Encode(v)
		return strings.TrimSpace(b.String()), err
	},
	"split": strings.Split,
	"join":  strings.Join,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string { r, n := utf8.DecodeRuneInString(s); return strings.ToUpper(string(r)) + s[n:] },
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
	"truncate": Truncate,
	"_cell":    cell,
}

// headerFunctions leave the name of a column as it is, whatever is done with what
// is in it.
var headerFunctions = template.FuncMap{
	"split": func(header, _ string) []string { return []string{header} },
	"join":  func(of []string, _ string) string { return strings.Join(of, "") },
	"json":  same, "lower": same, "upper": same, "title": same, "truncate": same,
}

func same(header string, _ ...any) string { return header }

// Truncate returns the first so many runes.
func Truncate(s string, runes int) string {
	if utf8.RuneCountInString(s) <= runes {
		return s
	}
	return string([]rune(s)[:runes])
}

// cell is a value that is to stay in its row and column.
func cell(v any) any {
	if s, ok := v.(string); ok && strings.ContainsAny(s, "\n\t\v\f\r") {
		return strings.NewReplacer("\n", `\n`, "\t", `\t`, "\v", `\v`, "\f", `\f`, "\r", `\r`).Replace(s)
	}
	return v
}
