package state

import (
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
