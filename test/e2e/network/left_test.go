package network_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"go.etcd.io/bbolt"
)

// looks are where a network plugin could leave something behind, with the part
// of a line that does not change by itself.
var looks = []struct {
	command []string
	keep    *regexp.Regexp
}{
	{[]string{"ip", "-d", "-o", "link"}, regexp.MustCompile(`^\d+: \S+|<.*?>| mtu \d+| master \S+|promiscuity \d+|allmulti \d+`)},
	{[]string{"ip", "-br", "address"}, regexp.MustCompile(`.+`)},
	{[]string{"ip", "-4", "route", "show", "table", "all"}, regexp.MustCompile(`.+`)},
	{[]string{"ip", "-6", "route", "show", "table", "all"}, regexp.MustCompile(`.+`)},
	{[]string{"iptables-save"}, regexp.MustCompile(`^(-.*|:\S+ \S+)`)},
	{[]string{"ip6tables-save"}, regexp.MustCompile(`^(-.*|:\S+ \S+)`)},
}

// traces is what there is on a host, one thing a line.
func (m *machine) traces() []string {
	var all []string
	for _, l := range looks {
		for line := range strings.Lines(m.Run(l.command[0], l.command[1:]...)) {
			if parts := l.keep.FindAllString(strings.TrimSpace(line), -1); parts != nil {
				all = append(all, strings.Join(append([]string{l.command[0] + ":"}, parts...), " "))
			}
		}
	}
	for name, format := range map[string]string{"network": "{{.Name}} {{.Driver}}", "container": "{{.Names}}"} {
		for line := range strings.Lines(m.Docker(name, "ls", "--format", format)) {
			all = append(all, name+": "+strings.TrimSpace(line))
		}
	}
	all = append(all, m.tables()...)
	slices.Sort(all)
	return all
}

// tables is what nftables there are, those of iptables included.
func (m *machine) tables() (all []string) {
	m.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		for _, t := range tables {
			all = append(all, fmt.Sprintf("table: family %d %s", t.Family, t.Name))
		}
		return err
	})
	return all
}

// leavesNothing removes all containers and networks and compares the host with
// what it was, and the plugin's state with nothing.
func (m *machine) leavesNothing(t *testing.T, before []string) {
	t.Helper()
	if ids := strings.Fields(m.Docker("ps", "-aq")); len(ids) > 0 {
		m.Docker(append([]string{"rm", "-f", "-v"}, ids...)...)
	}
	if ids := strings.Fields(m.Docker("network", "ls", "-q", "--filter", "type=custom")); len(ids) > 0 {
		m.Docker(append([]string{"network", "rm"}, ids...)...)
	}
	if diff := cmp.Diff(before, m.traces()); diff != "" {
		t.Errorf("host %s is not what it was (-before +after):\n%s", m.Name, diff)
	}
	for _, what := range m.state(t) {
		t.Errorf("the plugin on host %s still knows of %s", m.Name, what)
	}
}

// state is what the plugin remembers of pools, networks, addresses and
// endpoints. Nobody else may read that while it runs.
func (m *machine) state(t *testing.T) (known []string) {
	t.Helper()
	m.Docker("plugin", "disable", "-f", netPlugin)
	defer m.Docker("plugin", "enable", netPlugin)
	dir := filepath.Join(m.Engine.DataRoot, "plugins", m.Docker("plugin", "inspect", "--format", "{{.Id}}", netPlugin), "propagated-mount")
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(files) != 2 {
		t.Errorf("the plugin keeps %v (%v)", files, err)
	}
	for _, file := range files {
		db, err := bbolt.Open(file, 0, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(table []byte, b *bbolt.Bucket) error {
				if string(table) == "instance" { // the installation's own name
					return nil
				}
				return b.ForEach(func(k, v []byte) error {
					known = append(known, fmt.Sprintf("%s: %s = %s", table, k, v))
					return nil
				})
			})
		})
		if err != nil {
			t.Error(err)
		}
		db.Close()
	}
	return known
}
