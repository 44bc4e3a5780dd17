package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var date = time.Unix(1700000000, 0).UTC()

// folder makes a plugin's build folder. What its files are like beyond their
// bytes, and whether they can be run, is to make no difference.
func folder(t *testing.T, program string, mode os.FileMode, changed time.Time) string {
	t.Helper()
	dir := t.TempDir()
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"config.json":     {`{"description": "p 1.2.3: it plugs", "entrypoint": ["/p"]}`, mode &^ 0o111},
		"rootfs/p":        {program, mode | 0o100},
		"rootfs/etc/that": {"that", mode &^ 0o111},
	} {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700|mode))
		must(t, os.WriteFile(path, []byte(f.text), 0o600))
		must(t, os.Chmod(path, f.mode))
		must(t, os.Chtimes(path, changed, changed))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// written is a release of one plugin, without what needs a real binary.
func written(t *testing.T, built string) string {
	t.Helper()
	a, out := artifact{"p", "amd64", true, built}, t.TempDir()
	file := filepath.Join(out, a.file("1.2.3"))
	must(t, archive(built, file, date))
	line, err := imageLine(a, file, "1.2.3")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(out, imagesFile), []byte(line), 0o644))
	must(t, writeSums(out))
	return out
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return data
}

func TestTheSameIsWrittenTheSame(t *testing.T) {
	one := written(t, folder(t, "program", 0o755, time.Unix(1, 0)))
	two := written(t, folder(t, "program", 0o700, time.Now()))
	if a, b := read(t, one, sumsFile), read(t, two, sumsFile); !bytes.Equal(a, b) {
		t.Errorf("the sums differ:\n%s%s", a, b)
	}
	other := written(t, folder(t, "another", 0o755, time.Unix(1, 0)))
	if bytes.Equal(read(t, one, imagesFile), read(t, other, imagesFile)) {
		t.Error("another program makes the same image")
	}
}

func TestOnlyFilesAndFolders(t *testing.T) {
	dir := folder(t, "program", 0o755, date)
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "rootfs/etc/link")))
	if err := archive(dir, filepath.Join(t.TempDir(), "a.tar.gz"), date); err == nil || !strings.Contains(err.Error(), "etc/link is neither") {
		t.Errorf("a link was packed: %v", err)
	}
}

// An engine checks that the layer is the rootfs that the configuration names.
func TestImageIsAPlugins(t *testing.T) {
	i, err := newImage(filepath.Join(written(t, folder(t, "program", 0o755, date)), "p_1.2.3_linux_amd64.tar.gz"))
	must(t, err)
	m, err := i.Manifest()
	must(t, err)
	if m.Config.MediaType != pluginConfig || len(m.Layers) != 1 {
		t.Errorf("the manifest is %+v", m)
	}
	raw, err := i.RawConfigFile()
	must(t, err)
	var config struct {
		Description string
		Rootfs      struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	must(t, json.Unmarshal(raw, &config))
	layers, err := i.Layers()
	must(t, err)
	plain, err := layers[0].Uncompressed()
	must(t, err)
	tar, err := io.ReadAll(plain)
	must(t, err)
	is, _, err := v1.SHA256(bytes.NewReader(tar))
	must(t, err)
	if config.Description != "p 1.2.3: it plugs" || len(config.Rootfs.DiffIDs) != 1 || config.Rootfs.DiffIDs[0] != is.String() {
		t.Errorf("the configuration is %s, the layer %s", raw, is)
	}
	if bytes.Contains(tar, []byte("rootfs/")) || !bytes.Contains(tar, []byte("etc/that")) {
		t.Error("the layer is not the rootfs")
	}
}

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	to := strings.TrimPrefix(server.URL, "http://") + "/dockline/"
	dir := written(t, folder(t, "program", 0o755, date))
	must(t, push(dir, to))
	must(t, push(dir, to)) // is there already
	err := push(written(t, folder(t, "another", 0o755, date)), to)
	if err == nil || !strings.Contains(err.Error(), "a version is never replaced") {
		t.Errorf("another program under the same version: %v", err)
	}
}

func TestDamagedReleasesAreNotPushed(t *testing.T) {
	for name, c := range map[string]struct {
		file, text, says string
	}{
		"archive":      {"p_1.2.3_linux_amd64.tar.gz", "x", "p_1.2.3_linux_amd64.tar.gz is not the file"},
		"images":       {imagesFile, "sha256:00  p:1.2.3-amd64\n", "IMAGES is not the file"},
		"elsewhere":    {sumsFile, "00  ../../etc/passwd\n", "which is no sum of a file"},
		"no sums":      {sumsFile, "", "there is no plugin"},
		"not the sums": {sumsFile, "hello\n", "which is no sum of a file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := written(t, folder(t, "program", 0o755, date))
			must(t, os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o644))
			if err := push(dir, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("said %v, without %q", err, c.says)
			}
		})
	}
	if err := push(t.TempDir(), "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "make release") {
		t.Errorf("a folder without a release: %v", err)
	}
}
