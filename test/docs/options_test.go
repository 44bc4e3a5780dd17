package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/testdoc"
	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/network"
)

//go:generate go test . -run ^TestDocument$ -update

// docs/network-options.md says what the tables say.
func TestDocument(t *testing.T) {
	testdoc.Check(t, filepath.Join(top, "docs/network-options.md"),
		"<!-- settings -->\n", settingTable(configOf(t, "dockline-net")),
		"<!-- network -->\n", "| option | value | default | meaning |\n|---|---|---|---|\n"+optionRows(network.Options(), ""),
		"<!-- addresses -->\n", "| backend | option | value | default | meaning |\n|---|---|---|---|---|\n"+
			optionRows(ipam.Split{}.Options(), "| `split` ")+optionRows(etcd.Options(), "| `etcd` ")+optionRows(dhcp.Options(), "| `dhcp` "))
}

func settingTable(c config) string {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	for _, s := range c.settings() {
		if s.Default == "rootfs" { // which stands for it, see docs/log-driver.md
			s.Default = ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, code(s.Default), s.Doc)
	}
	return b.String()
}

func optionRows(table []options.Option, before string) string {
	var b strings.Builder
	for _, o := range table {
		fmt.Fprintf(&b, "%s| `%s` | %s | %s | %s |\n", before, o.Name, o.Type, code(o.Default), strings.ReplaceAll(o.Doc, "|", `\|`))
	}
	return b.String()
}

// code is how a table shows a default: what can be typed as code, words as they are.
func code(value string) string {
	switch {
	case value == "":
		return "none"
	case strings.ContainsAny(value, " `"):
		return value
	}
	return "`" + value + "`"
}

// The table of docs/log-driver.md, which somebody has written, has the settings
// that there are, with the defaults that they have.
func TestSettingsOfTheLogDriver(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(top, "docs/log-driver.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Plugin settings\n")
	section, _, _ = strings.Cut(section, "\n## ")
	got, want := map[string]string{}, map[string]string{}
	name := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || !strings.HasPrefix(cells[0], "| `") {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(cells[0], -1) {
			got[m[1]] = strings.Trim(cells[1], "`")
		}
	}
	for _, s := range configOf(t, "dockline-log").settings() {
		want[s.Name] = s.Default
		switch {
		case s.Name == "spool.source":
			want[s.Name] = "the plugin's own directory"
		case s.Name == "HOST_NAME":
			want[s.Name] = "the host's"
		case s.Default == "" || s.Default == "rootfs":
			want[s.Name] = "none"
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("plugin-config and the page differ:\n%s", d)
	}
}
