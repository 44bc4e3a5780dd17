// Package testdoc holds pages of the documentation against what they are made
// from: a text of the tests' own, and what the code says where it has markers.
package testdoc

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the page of the documentation")

// Check wants a page to be the text of its name in testdata, with each marker
// replaced by what is behind it. With -update it writes the page.
func Check(t *testing.T, page string, markers ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", filepath.Base(page)))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(markers...).Replace(string(text))
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("it is out of date (make docs):\n%s", d)
	}
}
