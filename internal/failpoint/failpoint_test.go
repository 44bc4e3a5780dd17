package failpoint

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHit(t *testing.T) {
	died := 0
	oldDir, oldDie := dir, die
	dir, die = t.TempDir(), func() { died++ }
	defer func() { dir, die, state.seen, state.last = oldDir, oldDie, nil, "" }()
	order := filepath.Join(dir, Order)
	tell := func(point string, skip int) {
		if err := os.WriteFile(order, []byte(Format(point, skip)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	Hit("put", "a") // without an order
	tell("put a", 1)
	for _, step := range []struct {
		point string
		died  int
	}{{"put b", 0}, {"put a", 0}, {"put b", 0}, {"put a", 1}, {"put a", 1}} {
		if Hit(step.point); died != step.died {
			t.Fatalf("after %q died %d times, want %d", step.point, died, step.died)
		}
	}
	if _, err := os.Stat(order); err == nil {
		t.Error("the order is still there: the next process would die too")
	}
	seen, err := os.ReadFile(filepath.Join(dir, Seen))
	if err != nil || string(seen) != "put a\nput b\n" {
		t.Errorf("seen %q, %v", seen, err)
	}
}

func TestNothingWithoutTheVariable(t *testing.T) {
	if dir != "" {
		t.Fatalf("%s is set", Variable)
	}
	if n := testing.AllocsPerRun(100, func() { Hit("put", "networks") }); n > 0 {
		t.Errorf("a point that is off allocates %v times", n)
	}
}
