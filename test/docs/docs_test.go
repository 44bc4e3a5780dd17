package docs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
)

const top = "../.."

func pages(t *testing.T) map[string]*Page {
	t.Helper()
	all, err := Pages(top)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]*Page{}
	for _, p := range all {
		named[p.Name] = p
	}
	return named
}

// maxNotRun bounds how much of the documentation nothing here can run.
const maxNotRun = 16

// Every block says what it is, so that something reads or runs it.
func TestBlocksAreAccountedFor(t *testing.T) {
	blocks, notRun := 0, 0
	for _, p := range pages(t) {
		for _, fault := range p.Faults {
			t.Error(fault)
		}
		for _, b := range p.Blocks {
			blocks++
			if Kinds[b.Kind] == "" {
				t.Errorf("%s: nobody reads a block of %q: test/docs/kinds.go has what there is", b.Place(), b.Kind)
			}
			if b.NotRun != "" {
				notRun++
				t.Logf("%s is not run: %s", b.Place(), b.NotRun)
			}
			if b.TestedIn != "" {
				testedIn(t, b)
			}
			if b.Step != "" {
				stepOf(t, b)
			}
		}
	}
	t.Logf("%d of %d blocks are not run", notRun, blocks)
	if notRun > maxNotRun {
		t.Errorf("%d blocks are not run, more than %d: have something read them", notRun, maxNotRun)
	}
}

// testedIn finds the tests that take the block from its page.
func testedIn(t *testing.T, b Block) {
	files, err := filepath.Glob(filepath.Join(top, b.TestedIn, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s: there are no tests in %s (%v)", b.Place(), b.TestedIn, err)
	}
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), `"`+filepath.Base(b.Page)+`", "`+b.Kind+`"`) {
			return
		}
	}
	t.Errorf("%s: no test in %s reads the block of %s", b.Place(), b.TestedIn, b.Kind)
}

// stepOf finds where a new user types the block.
func stepOf(t *testing.T, b Block) {
	script, err := os.ReadFile(filepath.Join(top, "test/newuser/newuser.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(typed \w+|block) '?` + regexp.QuoteMeta(b.Step) + `\b`).Match(script) {
		t.Errorf("%s: test/newuser/newuser.sh does not take the step %q", b.Place(), b.Step)
	}
}

// Links lead somewhere, within the documentation and to files of the tree.
func TestLinks(t *testing.T) {
	all := pages(t)
	for _, p := range all {
		for _, l := range p.Links {
			if strings.Contains(l.To, "://") || strings.HasPrefix(l.To, "mailto:") {
				continue
			}
			name, anchor, _ := strings.Cut(l.To, "#")
			to := p.Name
			if name != "" {
				to = filepath.Join(filepath.Dir(p.Name), name)
			}
			if err := leads(all, to, anchor); err != nil {
				t.Errorf("%s:%d: %s leads nowhere: %v", p.Name, l.Line, l.To, err)
			}
		}
	}
}

func leads(all map[string]*Page, to, anchor string) error {
	if anchor == "" {
		_, err := os.Stat(filepath.Join(top, to))
		return err
	}
	page := all[to]
	if page == nil { // one that is not of the documentation
		source, err := os.ReadFile(filepath.Join(top, to))
		if err != nil {
			return err
		}
		page = Parse(to, source)
	}
	if !page.Anchors[anchor] {
		return fmt.Errorf("there is no heading #%s in %s", anchor, to)
	}
	return nil
}

// Every page is reached from the README, by however many links.
func TestPagesAreReached(t *testing.T) {
	all := pages(t)
	reached := map[string]bool{"README.md": true}
	for queue := []string{"README.md"}; len(queue) > 0; queue = queue[1:] {
		p := all[queue[0]]
		for _, l := range p.Links {
			name, _, _ := strings.Cut(l.To, "#")
			to := filepath.Join(filepath.Dir(p.Name), name)
			if all[to] != nil && !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	for name := range all {
		if !reached[name] {
			t.Errorf("no link leads to %s", name)
		}
	}
}

// Every setting of a plugin is in the documentation, by its name.
func TestSettingsAreDocumented(t *testing.T) {
	there := map[string]bool{}
	for _, p := range pages(t) {
		for _, c := range p.Codes {
			name, _, _ := strings.Cut(c.Text, "=")
			there[name] = true
		}
	}
	for plugin, settings := range newCommands(t).settings {
		for _, s := range settings {
			if !there[s] {
				t.Errorf("nothing says what %s of %s is", s, plugin)
			}
		}
	}
}

// Commands, in blocks and in sentences, are ones that there are.
func TestCommandsExist(t *testing.T) {
	c := newCommands(t)
	for _, p := range pages(t) {
		for _, b := range p.Blocks {
			if b.Kind != "sh" && b.Kind != "usage" {
				continue
			}
			script := b.Text
			if b.Kind == "usage" {
				script = unbracketed.Replace(script)
			}
			if err := each(script, func(args []string) error { return c.check(args) }); err != nil {
				t.Errorf("%s: %v", b.Place(), err)
			}
		}
		for _, b := range p.Blocks {
			if err := each(b.Figures, func(args []string) error { return c.check(args) }); err != nil {
				t.Errorf("%s: %v", b.Place(), err)
			}
		}
		for _, code := range p.Codes {
			err := each(strings.ReplaceAll(code.Text, "…", ""), func(args []string) error { return c.check(args) })
			if parse := new(syntax.ParseError); err != nil && !errors.As(err, parse) && !errors.As(err, new(syntax.LangError)) {
				t.Errorf("%s:%d: %v", p.Name, code.Line, err)
			}
		}
	}
}

// unbracketed takes the brackets of what may be left out away.
var unbracketed = strings.NewReplacer("[", "", "]", "", "…", "", "|", "")

// each calls fn for each simple command of a script, with its words without
// their quotes; what the shell would put in stands as it is written.
func each(script string, fn func(args []string) error) error {
	file, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return err
	}
	var errs []error
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		var args []string
		for _, w := range call.Args {
			args = append(args, literal(w.Parts))
		}
		errs = append(errs, fn(args))
		return true
	})
	return errors.Join(errs...)
}

func literal(parts []syntax.WordPart) string {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(strings.ReplaceAll(p.Value, "\\\n", ""))
		case *syntax.SglQuoted:
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			b.WriteString(literal(p.Parts))
		default:
			b.WriteString("$")
		}
	}
	return b.String()
}

func TestEach(t *testing.T) {
	var got []string
	err := each("A=1 docker run --log-opt tag='{{.Name}}' \\\n  nginx && $P x | grep -c 'a b' # no", func(args []string) error {
		got = append(got, strings.Join(args, "|"))
		return nil
	})
	want := []string{"docker|run|--log-opt|tag={{.Name}}|nginx", "$|x", "grep|-c|a b"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestParse(t *testing.T) {
	p := Parse("p.md", []byte("# One `x`: two!\n\n<!-- docs: on logs; exit 1 -->\n```sh\na\nb\n```\n\n- item\n\n  ```yaml\n  x: 1\n  ```\n\n# One x two\n\n    indented\n\n<!-- docs: no -->\n```\nc\n```\n"))
	if len(p.Blocks) != 3 || p.Blocks[0].On != "logs" || p.Blocks[0].Exit != 1 || p.Blocks[0].Line != 5 || p.Blocks[0].Section != "one-x-two" ||
		p.Blocks[1].Text != "x: 1\n" || p.Blocks[1].Kind != "yaml" || p.Blocks[2].Section != "one-x-two-1" {
		t.Errorf("%+v", p.Blocks)
	}
	if len(p.Faults) != 2 {
		t.Errorf("%q", p.Faults)
	}
}
