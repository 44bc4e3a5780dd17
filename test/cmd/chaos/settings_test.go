package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver"
)

// What the run begins with is taken, and of each bad one the plugin says what the
// run looks for in its status.
func TestFaults(t *testing.T) {
	s := newSettings()
	file := filepath.Join(t.TempDir(), "dockline-log.yaml")
	check := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := logdriver.CheckConfig(file, "")
		return err
	}
	if err := check(s.text()); err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if !strings.Contains(s.text(), f.from) {
			t.Errorf("no configuration has %q", f.from)
			continue
		}
		err := check(strings.Replace(s.text(), f.from, f.to, 1))
		if err == nil {
			t.Errorf("%q is taken", f.to)
			continue
		}
		if said, _ := json.Marshal(err.Error()); !strings.Contains(string(said), f.says) {
			t.Errorf("of %q it says %s, not %q", f.to, said, f.says)
		}
	}
}
