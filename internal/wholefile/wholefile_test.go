package wholefile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "folder", "file")
	for _, synced := range []bool{true, false} {
		for _, text := range []string{"first and longer", "second", ""} {
			if err := Write(name, []byte(text), synced); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(name)
			if err != nil || !bytes.Equal(got, []byte(text)) {
				t.Errorf("%q, %v; want %q", got, err, text)
			}
			if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
		}
	}
	left, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file there are %v, %v", left, err)
	}
	if err := Write(filepath.Join(name, "below a file"), nil, true); err == nil {
		t.Error("a file took another below it")
	}
}
