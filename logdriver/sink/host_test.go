package sink

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadFile(t *testing.T) {
	config, etc := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(config, "a"), []byte("in config"), 0o600),
		os.Mkdir(filepath.Join(etc, "dockline"), 0o755),
		os.WriteFile(filepath.Join(etc, "dockline", "a"), []byte("in etc"), 0o600),
		os.WriteFile(filepath.Join(etc, "huge"), make([]byte, maxFile+1), 0o600),
		os.Symlink("a", filepath.Join(config, "link")),
		os.Symlink("/etc/passwd", filepath.Join(config, "out")),
		syscall.Mkfifo(filepath.Join(config, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	whole := Host{Config: config, Etc: etc}
	for _, tc := range []struct {
		host            Host
		name, want, err string
	}{
		{host: whole, name: "a", want: "in config"},
		{host: whole, name: "./x/../a", want: "in config"},
		{host: whole, name: "link", want: "in config"},
		{host: whole, name: "/etc/dockline/a", want: "in etc"},
		{host: whole, name: "/etc/dockline/b", err: "/etc/dockline/b: no such file"},
		{host: whole, name: "out", err: "out: path escapes"},
		{host: whole, name: "fifo", err: "not a file"},
		{host: whole, name: ".", err: "not a file"},
		{host: whole, name: "../a", err: "leads out"},
		{host: whole, name: "/etc/../a", err: "can be seen"},
		{host: whole, name: "/run/a", err: "can be seen"},
		{host: whole, name: "/etc/huge", err: "larger"},
		{host: whole, name: "", err: "empty"},
		{host: Host{}, name: "a", err: "no folder"},
		{host: Host{Config: "/nowhere/at/all"}, name: "a", err: "folder that it is looked for in"},
	} {
		got, err := tc.host.ReadFile(tc.name)
		if string(got) != tc.want || tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: %.40q, %v; want %q, %q", tc.name, got, err, tc.want, tc.err)
		}
	}
	if got, err := (Host{}).ReadFile("/etc/passwd"); err != nil || len(got) == 0 {
		t.Errorf("/etc itself: %v", err)
	}
}
