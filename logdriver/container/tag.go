package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"
)

func title(s string) string {
	return strings.Title(s) //nolint:staticcheck // it is what the engine does
}

func asJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}

func pad(s string, before, after int) string {
	if s == "" || before < 0 || after < 0 || before > maxTag || after > maxTag-before {
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
	if len(text) > maxTemplate {
		return "", fmt.Errorf("a template of more than %d bytes", maxTemplate)
	}
	w := &work{}
	t, err := template.New("tag").Funcs(w.funcs()).Parse(text)
	if err != nil {
		return "", fmt.Errorf("not a template: %w", err)
	}
	if err := w.count(t); err != nil {
		return "", fmt.Errorf("not a template: %w", err)
	}
	var b tagWriter
	err = t.Execute(&b, info)
	for _, bound := range []error{errLongTag, errMuchWork} {
		if errors.Is(err, bound) {
			return "", bound
		}
	}
	if err != nil {
		return "", fmt.Errorf("expand the template: %w", err)
	}
	return b.text.String(), nil
}

// What the expansion of a template may take. Who starts containers writes it, and
// by loops, and templates that call each other, it can ask for any amount of time
// and memory.
const (
	maxTemplate = 4 << 10 // bytes
	maxSteps    = 1000    // rounds of loops, and calls of templates
	maxHandled  = 1 << 20 // bytes of what functions are given and return
	maxVerbs    = 32      // of one printf
)

var (
	errLongTag  = fmt.Errorf("expands to more than %d bytes", maxTag)
	errMuchWork = fmt.Errorf("takes too much work: more than %d rounds of loops and calls of templates, or more than %d bytes handled by functions", maxSteps, maxHandled)
)

// work is what an expansion has taken.
type work struct{ steps, handled int }

// stepFunc is the function that counts; no template says that by itself.
const stepFunc = "_step"

func (w *work) step() (string, error) {
	if w.steps++; w.steps > maxSteps {
		return "", errMuchWork
	}
	return "", nil
}

func (w *work) add(texts ...string) error {
	for _, s := range texts {
		w.handled += len(s)
	}
	if w.handled > maxHandled {
		return errMuchWork
	}
	return nil
}

// count puts a step before each body of a loop, and each template.
func (w *work) count(t *template.Template) error {
	one, err := template.New("").Funcs(w.funcs()).Parse("{{" + stepFunc + "}}")
	if err != nil {
		return err
	}
	step := one.Root.Nodes[0]
	for _, t := range t.Templates() {
		if t.Tree != nil && t.Root != nil {
			countIn(t.Root, step)
			prepend(t.Root, step)
		}
	}
	return nil
}

func prepend(list *parse.ListNode, step parse.Node) {
	list.Nodes = append([]parse.Node{step.Copy()}, list.Nodes...)
}

func countIn(list *parse.ListNode, step parse.Node) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.RangeNode:
			countIn(n.List, step)
			countIn(n.ElseList, step)
			prepend(n.List, step)
		case *parse.IfNode:
			countIn(n.List, step)
			countIn(n.ElseList, step)
		case *parse.WithNode:
			countIn(n.List, step)
			countIn(n.ElseList, step)
		}
	}
}

// of is a function of a text that counts what it is given and returns.
func (w *work) of(f func(string) string) func(string) (string, error) {
	return func(s string) (string, error) {
		if err := w.add(s); err != nil {
			return "", err
		}
		s = f(s)
		return s, w.add(s)
	}
}

// funcs are the functions that the engine gives to tag templates (moby
// daemon/logger/templates), and those of the template language that make text
// out of others. All of them count what they handle.
func (w *work) funcs() template.FuncMap {
	text := func(f func(...any) string) func(...any) (string, error) {
		return func(args ...any) (string, error) {
			for _, a := range args {
				if s, ok := a.(string); ok {
					if err := w.add(s); err != nil {
						return "", err
					}
				}
			}
			s := f(args...)
			return s, w.add(s)
		}
	}
	return template.FuncMap{
		stepFunc: w.step,
		"print":  text(fmt.Sprint), "println": text(fmt.Sprintln),
		"printf": func(format string, args ...any) (string, error) {
			// Each verb may show all of an argument, or nothing, or be 1 MB wide.
			shown := fmt.Sprint(args...)
			if verbs := strings.Count(format, "%"); verbs > maxVerbs || verbs*len(shown) > maxHandled {
				return "", errMuchWork
			}
			if err := w.add(format, shown); err != nil {
				return "", err
			}
			return text(func(args ...any) string { return fmt.Sprintf(format, args...) })(args...)
		},
		"html": text(template.HTMLEscaper), "js": text(template.JSEscaper), "urlquery": text(template.URLQueryEscaper),
		"json": func(v any) (string, error) {
			s, err := asJSON(v)
			return s, errors.Join(err, w.add(s))
		},
		"join": func(parts []string, sep string) (string, error) {
			if err := w.add(parts...); err != nil {
				return "", err
			}
			s := strings.Join(parts, sep)
			return s, w.add(s)
		},
		"split": func(s, sep string) ([]string, error) {
			if err := w.add(s, s); err != nil {
				return nil, err
			}
			return strings.Split(s, sep), nil
		},
		"lower": w.of(strings.ToLower), "upper": w.of(strings.ToUpper), "title": w.of(title),
		"pad": func(s string, before, after int) (string, error) {
			return w.of(func(s string) string { return pad(s, before, after) })(s)
		},
		"truncate": func(s string, n int) (string, error) {
			return w.of(func(s string) string { return truncate(s, n) })(s)
		},
	}
}

// tagWriter ends a template that expands to too much while it does: templates can
// call each other, and so expand to more than there is memory.
type tagWriter struct{ text strings.Builder }

func (w *tagWriter) Write(p []byte) (int, error) {
	if w.text.Len()+len(p) > maxTag {
		return 0, errLongTag
	}
	return w.text.Write(p)
}
