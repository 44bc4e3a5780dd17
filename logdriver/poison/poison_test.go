package poison

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func entry(n int) Entry {
	return Entry{Collector: "c", ID: fmt.Sprintf("s-%d", n), Records: 1, Class: "invalid", Reason: "because", Encoded: []byte(strings.Repeat("\xff", 100))}
}

func ids(t *testing.T, s *Store) []string {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range all {
		out = append(out, e.ID)
	}
	return out
}

func TestNewestAreKept(t *testing.T) {
	dir := t.TempDir()
	s := New(dir, 4000)
	for n := range 200 {
		if n > 50 { // one process for the first ones, then a new one for each
			s = New(dir, 4000)
		}
		if err := s.Add([]Entry{entry(n)}); err != nil {
			t.Fatal(err)
		}
	}
	got := ids(t, New(dir, 4000))
	if len(got) < 10 || len(got) > 40 || got[len(got)-1] != "s-199" {
		t.Errorf("kept: %q", got)
	}
	for _, name := range []string{current, previous} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() > 4000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	if err := New(dir, 1<<20).Add([]Entry{entry(1), entry(2)}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, current)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := New(dir, 1<<20)
		if err := s.Add([]Entry{entry(3)}); err != nil {
			t.Fatal(err)
		}
		got := ids(t, s)
		if len(got) == 0 || got[len(got)-1] != "s-3" {
			t.Fatalf("cut at %d: %q", cut, got)
		}
	}
}

func TestAgainIsOnce(t *testing.T) {
	s := New(t.TempDir(), 1<<20)
	for range 3 {
		if err := s.Add([]Entry{entry(1), entry(2)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := ids(t, s); len(got) != 2 {
		t.Errorf("%q", got)
	}
	if got := s.Counts()[Kind{"c", "invalid"}]; got != 6 {
		t.Errorf("counted %d", got)
	}
}

func TestNothingYetAndNoFolder(t *testing.T) {
	if got := ids(t, New(t.TempDir(), 1)); len(got) != 0 {
		t.Errorf("%q", got)
	}
	s := New(filepath.Join(t.TempDir(), "none"), 1)
	if err := s.Add([]Entry{entry(1)}); err == nil {
		t.Error("no error")
	}
	if s.Counts()[Kind{"c", "invalid"}] != 1 {
		t.Error("not counted")
	}
}
