// Package docs reads the documentation as its tests see it: pages, their
// headings and links, and the fenced blocks in them, each of which something has
// to read or run (test/e2e/docs does).
//
// The first word behind a fence says what a block is (see Kinds). What else has
// to be known of one stands before it in a comment that no reader sees:
//
//	<!-- docs: on logs -->                          it is typed on that machine, not on the Docker host
//	<!-- docs: exit 1 -->                           a command in it ends with this code, too
//	<!-- docs: until TEXT -->                       it does not end by itself: ^C once it has printed this
//	<!-- docs: tested in DIR -->                    another package's tests read it from here and run it
//	<!-- docs: step NAME -->                        test/newuser/newuser.sh types it, on a bare Debian
//	<!-- docs: figures of COMMAND -->               measured once, by a command that takes minutes
//	<!-- docs: not run, REASON -->                  nothing here can
//
// Several but the last are parted by semicolons.
package docs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// Page is one Markdown file.
type Page struct {
	Name    string // relative to the module's folder, such as docs/sinks/kafka.md
	Anchors map[string]bool
	Links   []Link
	Codes   []Code
	Blocks  []Block
	Faults  []string // what cannot be understood
}

// Link is a reference to another place.
type Link struct {
	To   string
	Line int
}

// Code is a piece of code within a sentence.
type Code struct {
	Text string
	Line int
}

// Block is a fenced block.
type Block struct {
	Page    string
	Section string // the anchor of the heading above it; "" before the first
	Line    int    // of its first line
	Kind    string // the first word behind the fence
	Text    string
	Note
}

// Place is where the block is, as compilers say it.
func (b Block) Place() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Note is what the comment before a block says.
type Note struct {
	On       string // the machine; "" is the Docker host
	Exit     int
	Until    string
	TestedIn string
	Step     string
	Figures  string
	NotRun   string
}

// Elsewhere reports whether the block is none of the runner's business.
func (n Note) Elsewhere() bool {
	return n.TestedIn != "" || n.Step != "" || n.Figures != "" || n.NotRun != ""
}

// Pages reads README.md and all that is below docs, in the order of their names.
func Pages(top string) ([]*Page, error) {
	names := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md", "plugin-config/README.md", "plugin-config/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			return nil, fmt.Errorf("list the documentation: %w", err)
		}
		for _, f := range found {
			names = append(names, strings.TrimPrefix(f, top+"/"))
		}
	}
	slices.Sort(names)
	var all []*Page
	for _, name := range names {
		source, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			return nil, fmt.Errorf("read the documentation: %w", err)
		}
		all = append(all, Parse(name, source))
	}
	return all, nil
}

// Parse reads one page.
func Parse(name string, source []byte) *Page {
	p := &parser{page: &Page{Name: name, Anchors: map[string]bool{}}, source: source}
	md := goldmark.New(goldmark.WithExtensions(extension.GFM))
	doc := md.Parser().Parse(text.NewReader(source))
	_ = ast.Walk(doc, p.visit) // which returns no error
	return p.page
}

type parser struct {
	page    *Page
	source  []byte
	section string
	line    int // of the block that is being read, for what stands in it
}

func (p *parser) visit(n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
		p.line = p.lineAt(n.Lines().At(0).Start)
	}
	switch n := n.(type) {
	case *ast.Heading:
		p.section = p.anchor(plain(n, p.source))
	case *ast.Link:
		p.page.Links = append(p.page.Links, Link{string(n.Destination), p.line})
	case *ast.Image:
		p.page.Links = append(p.page.Links, Link{string(n.Destination), p.line})
	case *ast.CodeSpan:
		p.page.Codes = append(p.page.Codes, Code{plain(n, p.source), p.line})
	case *ast.CodeBlock:
		p.fault("an indented block: fence it and say what it is")
	case *ast.FencedCodeBlock:
		p.block(n)
	}
	return ast.WalkContinue, nil
}

func (p *parser) fault(format string, args ...any) {
	p.page.Faults = append(p.page.Faults, fmt.Sprintf("%s:%d: ", p.page.Name, p.line)+fmt.Sprintf(format, args...))
}

func (p *parser) lineAt(offset int) int { return 1 + bytes.Count(p.source[:offset], []byte("\n")) }

func (p *parser) block(n *ast.FencedCodeBlock) {
	b := Block{Page: p.page.Name, Section: p.section, Line: p.line, Kind: string(n.Language(p.source)), Text: string(n.Lines().Value(p.source))}
	if comment, ok := n.PreviousSibling().(*ast.HTMLBlock); ok {
		note, err := parseNote(string(comment.Lines().Value(p.source)))
		if err != nil {
			p.fault("%v", err)
		}
		b.Note = note
	}
	p.page.Blocks = append(p.page.Blocks, b)
}

// anchor notes a heading by the name under which GitHub lets one link to it.
func (p *parser) anchor(heading string) string {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
	name := slug
	for i := 1; p.page.Anchors[name]; i++ {
		name = slug + "-" + strconv.Itoa(i)
	}
	p.page.Anchors[name] = true
	return name
}

// plain is the text below a node, without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(c ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := c.(*ast.Text); ok && entering {
			b.Write(t.Value(source))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

const opens, closes, notRun = "<!-- docs: ", " -->", "not run, "

// parseNote reads a comment; one that is not for us says nothing.
func parseNote(comment string) (note Note, err error) {
	body, ours := strings.CutPrefix(strings.TrimSpace(comment), opens)
	if !ours {
		return note, nil
	}
	body, ended := strings.CutSuffix(body, closes)
	if !ended {
		return note, fmt.Errorf("the comment %q does not end in %q", comment, closes)
	}
	if strings.HasPrefix(body, notRun) {
		return note, note.read(body)
	}
	for part := range strings.SplitSeq(body, ";") {
		if err := note.read(strings.TrimSpace(part)); err != nil {
			return note, err
		}
	}
	return note, nil
}

func (n *Note) read(part string) error {
	var code string
	for _, is := range []struct {
		prefix string
		value  *string
	}{
		{"on ", &n.On}, {"until ", &n.Until}, {"exit ", &code}, {"tested in ", &n.TestedIn}, {"step ", &n.Step},
		{"figures of ", &n.Figures}, {notRun, &n.NotRun},
	} {
		if rest, ok := strings.CutPrefix(part, is.prefix); ok && rest != "" {
			*is.value = rest
			if is.value != &code {
				return nil
			}
			var err error
			if n.Exit, err = strconv.Atoi(code); err != nil {
				return fmt.Errorf("%q is no exit code", code)
			}
			return nil
		}
	}
	return fmt.Errorf("the comment before a block says %q: see the package comment of test/docs for what it can", part)
}
