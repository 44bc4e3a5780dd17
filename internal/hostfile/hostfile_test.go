package hostfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const bound = 1000

func TestPlaces(t *testing.T) {
	config, etc := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(config, "a"), []byte("in config"), 0o600),
		os.Mkdir(filepath.Join(etc, "dockline"), 0o755),
		os.WriteFile(filepath.Join(etc, "dockline", "a"), []byte("in etc"), 0o600),
		os.WriteFile(filepath.Join(etc, "huge"), make([]byte, bound+1), 0o600),
		os.Symlink("a", filepath.Join(config, "link")),
		os.Symlink("/etc/passwd", filepath.Join(config, "out")),
		syscall.Mkfifo(filepath.Join(config, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	whole := Places{Config: config, Etc: etc}
	for _, tc := range []struct {
		places          Places
		name, want, err string
	}{
		{places: whole, name: "a", want: "in config"},
		{places: whole, name: "./x/../a", want: "in config"},
		{places: whole, name: "link", want: "in config"},
		{places: whole, name: "/etc/dockline/a", want: "in etc"},
		{places: whole, name: "/etc/dockline/b", err: "/etc/dockline/b: no such file"},
		{places: whole, name: "out", err: "out: path escapes"},
		{places: whole, name: "fifo", err: "not a file"},
		{places: whole, name: ".", err: "not a file"},
		{places: whole, name: "../a", err: "leads out"},
		{places: whole, name: "/etc/../a", err: "can be seen"},
		{places: whole, name: "/run/a", err: "can be seen"},
		{places: whole, name: "/etc/huge", err: "larger"},
		{places: whole, name: "", err: "empty"},
		{places: Places{}, name: "a", err: "no folder"},
		{places: Places{Config: "/nowhere/at/all"}, name: "a", err: "folder that it is looked for in"},
	} {
		got, err := tc.places.Read(tc.name, bound)
		if string(got) != tc.want || tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: %.40q, %v; want %q, %q", tc.name, got, err, tc.want, tc.err)
		}
	}
	if got, err := (Places{}).Read("/etc/passwd", 1<<20); err != nil || len(got) == 0 {
		t.Errorf("/etc itself: %v", err)
	}
}
