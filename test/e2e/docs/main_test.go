// Package docs_test does what the documentation says, as its reader would: it
// types the commands of each page, in order, on a host of the kind that the page
// assumes, gives every configuration to the program that is to read it, and looks
// whether what the page promises comes true. Commands are never changed: the world
// around them is made to fit (world_test.go), and where a page takes something for
// granted, a scene makes it (page_*_test.go, listed in pages_test.go).
//
// The marks that a page has for this are in the package comment of test/docs,
// whose tests see to it that every block has a reader.
package docs_test

import (
	"cmp"
	"flag"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/test/docs"
	"github.com/dockline/dockline/test/harness"
)

// page has a scene for each section whose commands need one, by its anchor. The
// world is as at first when a page begins.
type page map[string]scene

// scene is what surrounds the commands of one section.
type scene struct {
	// given makes what the reader has before the first command. The world is as at
	// first then, unless the section goes on where the one before it ended, as
	// those do that have no scene.
	given  func(*world)
	goesOn bool
	// fails is what a command says that ends with exit code 1, for the pages that
	// are made from help and have no marks.
	fails string
	// shown looks whether what the section promises has come true. printed is
	// what each of its blocks of commands printed.
	shown func(w *world, printed []string)
}

// only has one section of a page read, one with a scene that does not go on from
// the one before: go test ./test/e2e/docs -run TestPages/quickstart -section logs-to-loki
var only = flag.String("section", "", "read this section only")

func TestPages(t *testing.T) {
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	all, err := docs.Pages(top)
	if err != nil {
		t.Fatal(err)
	}
	left := maps.Clone(pages)
	for _, p := range all {
		delete(left, p.Name)
	}
	for name := range left {
		t.Errorf("there is no page %s", name)
	}
	// The longest first, for there are two worlds, which wait as much as they work.
	slices.SortStableFunc(all, func(a, b *docs.Page) int { return cmp.Compare(len(pages[b.Name]), len(pages[a.Name])) })
	next := make(chan *docs.Page, len(all))
	for _, p := range all {
		next <- p
	}
	close(next)
	worlds := []*world{newWorld(t)}
	if *only == "" {
		worlds = append(worlds, newWorld(t))
	}
	var readers sync.WaitGroup
	for _, w := range worlds {
		readers.Go(func() {
			for p := range next {
				t.Run(title(p), func(t *testing.T) {
					defer w.lend(t)()
					w.read(p)
				})
			}
		})
	}
	readers.Wait()
}

// title is what a page's test is called.
func title(p *docs.Page) string {
	return strings.TrimSuffix(strings.ReplaceAll(strings.TrimPrefix(p.Name, "docs/"), "/", "-"), ".md")
}

// read does what a page says.
func (w *world) read(p *docs.Page) {
	scenes, known := pages[p.Name]
	for section := range scenes {
		if !p.Anchors[section] {
			w.Errorf("%s has no section #%s", p.Name, section)
		}
	}
	section, printed, before := "\x00", []string(nil), docs.Block{}
	end := func() {
		if s := scenes[section]; s.shown != nil {
			s.shown(w, printed)
		}
	}
	for _, b := range p.Blocks {
		if *only != "" && b.Section != *only || b.Elsewhere() || b.Kind == "usage" || b.Kind == "formula" || b.Kind == "text" && before.Kind == "usage" {
			before = b
			continue
		}
		if !known {
			w.Fatalf("%s: nobody has said what the page assumes: see pages_test.go", b.Place())
		}
		if b.Section != section {
			if end(); section == "\x00" && scenes[b.Section].given == nil {
				w.reset()
			}
			section, printed = b.Section, nil
			w.set(scenes[section])
		}
		switch b.Kind {
		case "sh":
			printed = append(printed, w.typed(b, scenes[section].fails))
		case "text":
			if len(printed) == 0 || before.Kind != "sh" {
				w.Fatalf("%s: there are no commands before it that print this", b.Place())
			}
			w.prints(b, printed[len(printed)-1])
		default:
			w.given(b)
		}
		before = b
	}
	end()
}

// set makes what a scene begins with.
func (w *world) set(s scene) {
	w.Helper()
	if s.given == nil {
		return
	}
	defer func(begun time.Time) { w.Logf("the scene was set in %.1f s", time.Since(begun).Seconds()) }(time.Now())
	if !s.goesOn {
		w.reset()
	}
	s.given(w)
}

// typed carries out a block of commands.
func (w *world) typed(b docs.Block, fails string) string {
	w.Helper()
	if fails != "" {
		b.Exit = 1
	}
	on := w.machines["rack1"]
	if b.On != "" {
		on = w.machines[b.On]
	}
	if on == nil {
		w.Fatalf("%s: there is no machine %s", b.Place(), b.On)
	}
	ctx, cancel := on.context()
	defer cancel()
	begun := time.Now()
	printed, failures, err := on.shell.run(ctx, b)
	w.Logf("%s: %.1f s", b.Place(), time.Since(begun).Seconds())
	if err != nil {
		on.shell = startShell(on)
		w.Fatalf("%s: %v\n%s\nprinted:\n%s", b.Place(), err, b.Text, printed)
	}
	exited := b.Exit == 0
	for _, f := range failures {
		switch f.code {
		case b.Exit:
			exited = true
		case interrupted:
			exited = exited || b.Until != ""
		default:
			w.Fatalf("%s:%d: %s\nexit code %d; the block printed:\n%s", b.Page, b.Line+f.line-1, f.command, f.code, printed)
		}
	}
	if !exited {
		w.Errorf("%s: no command ended with exit code %d", b.Place(), b.Exit)
	}
	for _, want := range []string{b.Until, fails} {
		if !strings.Contains(printed, want) {
			w.Errorf("%s: it did not print %q, but:\n%s", b.Place(), want, printed)
		}
	}
	return printed
}

// interrupted is the exit code of what ^C has ended.
const interrupted = 130

// prints compares what commands printed with what a page shows of it: the lines
// that it shows, one after the other. What has a digit in it may have another
// value, blanks may be more or fewer, and … is anything.
func (w *world) prints(b docs.Block, printed string) {
	w.Helper()
	rest := printed
	for line := range strings.Lines(b.Text) {
		at := like(line).FindStringIndex(rest)
		if at == nil {
			w.Fatalf("%s: there is no (further) line like\n%s\nin\n%s", b.Place(), line, printed)
		}
		rest = rest[at[1]:]
	}
}

// part is what may differ in a line, or the blanks between the others.
var part = regexp.MustCompile(`[\w.:+-]*\d[\w.:+-]*|\s+|…`)

func like(line string) *regexp.Regexp {
	line = strings.TrimSpace(line)
	var b strings.Builder
	end := 0
	for _, at := range part.FindAllStringIndex(line, -1) {
		b.WriteString(regexp.QuoteMeta(line[end:at[0]]))
		switch is := line[at[0]:at[1]]; {
		case is == "…":
			b.WriteString(".*")
		case strings.TrimSpace(is) == "":
			b.WriteString(`[ \t]+`)
		default:
			b.WriteString(`[\w.:+-]+`)
		}
		end = at[1]
	}
	return regexp.MustCompile(`(?m)^[ \t]*` + b.String() + regexp.QuoteMeta(line[end:]) + `[ \t]*$`)
}

func TestLike(t *testing.T) {
	const shown = `{"id":"a-0f", "n": 12}  …  c1`
	for printed, want := range map[string]bool{
		"x\n  {\"id\":\"b-77\", \"n\": 3} whatever c22\ny": true,
		`{"id":"b-77", "m": 3} whatever c22`:               false,
		`{"id":"b-77", "n": 3, "x": 1} whatever c22`:       false,
	} {
		if got := like(shown).MatchString(printed); got != want {
			t.Errorf("%q is like %q: %v", printed, shown, got)
		}
	}
}
