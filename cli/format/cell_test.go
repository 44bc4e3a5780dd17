package format

import (
	"bytes"
	"testing"
)

// A value does not make up rows.
func TestCells(t *testing.T) {
	var b bytes.Buffer
	if err := List(&b, "", []struct {
		Name string `header:"NAME"`
		N    int    `header:"N"`
	}{{"a\nb\tc", 1}}); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != "NAME      N\na\\nb\\tc   1\n" {
		t.Errorf("%q", got)
	}
}
