package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

type row struct{ A string }

func tables(t *testing.T, dir, boot string) (*Dir, *Table[row], *Table[row]) {
	t.Helper()
	d, err := Open(dir, boot)
	if err != nil {
		t.Fatal(err)
	}
	durable, err := Durable[row](d, "networks")
	if err != nil {
		t.Fatal(err)
	}
	journal, err := Journalled[row](d, "endpoints")
	if err != nil {
		t.Fatal(err)
	}
	return d, durable, journal
}

func TestNetworksSurviveABootAndEndpointsDoNot(t *testing.T) {
	for _, tc := range []struct {
		name, second string
		journal      int
	}{
		{name: "a plugin restarted in the same boot", second: "boot-a", journal: 1},
		{name: "a host that was rebooted", second: "boot-b", journal: 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			d, durable, journal := tables(t, dir, "boot-a")
			for _, tab := range []*Table[row]{durable, journal} {
				if err := tab.Put("k", row{A: "v"}); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d, durable, journal = tables(t, dir, tc.second)
			defer func() { _ = d.Close() }()
			if all, err := durable.All(); err != nil || all["k"].A != "v" {
				t.Errorf("durable table after reopening: %v, %v", all, err)
			}
			if all, err := journal.All(); err != nil || len(all) != tc.journal {
				t.Errorf("journal after reopening: %v, %v, want %d entries", all, err, tc.journal)
			}
		})
	}
}

func TestAJournalOfAnotherBootIsNeverRead(t *testing.T) {
	dir := t.TempDir()
	torn := filepath.Join(dir, "journal-old.db")
	if err := os.WriteFile(torn, []byte("torn by a power cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, _, _ := tables(t, dir, "new")
	defer func() { _ = d.Close() }()
	if _, err := os.Stat(torn); !os.IsNotExist(err) {
		t.Errorf("the old journal is still there: %v", err)
	}
}

func TestDeleteOfTheMissingSucceeds(t *testing.T) {
	d, durable, _ := tables(t, t.TempDir(), "b")
	defer func() { _ = d.Close() }()
	if err := durable.Delete("never", "there"); err != nil {
		t.Error(err)
	}
}

func TestAnUnreadableValueIsAnError(t *testing.T) {
	d, _, _ := tables(t, t.TempDir(), "b")
	defer func() { _ = d.Close() }()
	numbers, err := Durable[int](d, "networks")
	if err != nil {
		t.Fatal(err)
	}
	if err := numbers.Put("n", 7); err != nil {
		t.Fatal(err)
	}
	rows, err := Durable[row](d, "networks")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := rows.All(); err == nil {
		t.Errorf("a number read as a row: %v", all)
	}
}

// damaged fills a file's tables, closes it and overwrites all but its first pages.
func damaged(t *testing.T, dir, file string) {
	t.Helper()
	d, durable, journal := tables(t, dir, "b")
	for i := range 50 {
		for _, tab := range []*Table[row]{durable, journal} {
			if err := tab.Put(fmt.Sprint(i), row{A: "v"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 2 * os.Getpagesize(); i < len(raw); i++ {
		raw[i] = 0xa5
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedJournalIsPutAside(t *testing.T) {
	dir := t.TempDir()
	damaged(t, dir, "journal-b.db")
	for range 2 { // the second start of that boot finds an intact one
		d, durable, journal := tables(t, dir, "b")
		if !d.JournalLost() {
			t.Error("the loss is not told")
		}
		if all, err := durable.All(); err != nil || len(all) != 50 {
			t.Errorf("networks: %d, %v", len(all), err)
		}
		if all, err := journal.All(); err != nil || len(all) != 0 {
			t.Errorf("journal: %d, %v", len(all), err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d, _, _ := tables(t, dir, "next")
	defer func() { _ = d.Close() }()
	if left, _ := filepath.Glob(filepath.Join(dir, "*.corrupt")); len(left) != 0 || d.JournalLost() {
		t.Errorf("after a reboot: %v, %v", left, d.JournalLost())
	}
}

func TestDamagedNetworksAreAnErrorAndKept(t *testing.T) {
	dir := t.TempDir()
	damaged(t, dir, "networks.db")
	before, err := os.ReadFile(filepath.Join(dir, "networks.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, "b")
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("got %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "networks.db")); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %v", err)
	}
}

func TestTheInstanceStays(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for _, boot := range []string{"a", "a", "b"} {
		d, _, _ := tables(t, dir, boot)
		id, err := d.Instance()
		if err != nil || len(id) != 2*instanceBytes {
			t.Errorf("%q, %v", id, err)
		}
		seen[id] = true
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 1 {
		t.Errorf("ids %v", seen)
	}
}
