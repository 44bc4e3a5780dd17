package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// put writes files below a folder.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A database with one vulnerability, in a function that one of two programs calls.
func TestCheck(t *testing.T) {
	db := t.TempDir()
	put(t, db, map[string]string{
		"index/db.json":        `{"modified":"2026-01-02T03:04:05Z"}`,
		"index/modules.json":   `[{"path":"stdlib","vulns":[{"id":"GO-2026-9999","modified":"2026-01-02T03:04:05Z"}]}]`,
		"index/vulns.json":     `[{"id":"GO-2026-9999","modified":"2026-01-02T03:04:05Z"}]`,
		"ID/GO-2026-9999.json": `{"schema_version":"1.3.1","id":"GO-2026-9999","modified":"2026-01-02T03:04:05Z","published":"2026-01-02T03:04:05Z","summary":"URLs are dangerous","affected":[{"package":{"name":"stdlib","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],"ecosystem_specific":{"imports":[{"path":"net/url","symbols":["Parse"]}]}}]}`,
	})
	program := func(body string) string {
		dir := t.TempDir()
		put(t, dir, map[string]string{"go.mod": "module example.com/m\n\ngo 1.26\n", "main.go": "package main\n\nimport \"net/url\"\n\nfunc main() { " + body + " }\n"})
		return dir
	}
	calls, does := program(`_, _ = url.Parse("x")`), program(`_ = url.PathEscape("x")`)
	for name, tc := range map[string]struct {
		db, dir string
		allowed map[string]string
		says    string // on stdout
		want    string // in the error
		none    bool   // there is no database
	}{
		"it is reached":        {db: db, dir: calls, says: "last changed on 2026-01-02", want: "GO-2026-9999: URLs are dangerous (net/url.Parse of stdlib"},
		"and allowed":          {db: db, dir: calls, allowed: map[string]string{"GO-2026-9999": "so it is"}, says: "known: so it is"},
		"it is not":            {db: db, dir: does, says: "nothing that our code reaches"},
		"and allowed, though":  {db: db, dir: does, allowed: map[string]string{"GO-2026-9999": "so it is"}, want: "GO-2026-9999 is not reached any more"},
		"there is no database": {db: filepath.Join(db, "none"), dir: does, want: "NOT CHECKED", none: true},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := check("file://"+tc.db, "../../../tools/go.mod", tc.dir, tc.allowed, &out)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || errors.Is(err, errNoDatabase) != tc.none || !strings.Contains(out.String(), tc.says) {
				t.Errorf("%v, %s", err, &out)
			}
		})
	}
}

func TestReadAllowed(t *testing.T) {
	if all, err := readAllowed("../../../tools/vulncheck.txt"); err != nil || all == nil {
		t.Error(err)
	}
	dir := t.TempDir()
	put(t, dir, map[string]string{"bare": "# why\nGO-2026-1\n", "good": "# c\n\nGO-2026-1 because of this\n"})
	if _, err := readAllowed(filepath.Join(dir, "bare")); err == nil {
		t.Error("one without a reason is taken")
	}
	if all, err := readAllowed(filepath.Join(dir, "good")); err != nil || all["GO-2026-1"] != "because of this" {
		t.Error(all, err)
	}
}
