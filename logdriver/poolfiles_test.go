package logdriver

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
)

// A pool that the configuration no longer has, and that is owed records, keeps
// the files beside the configuration that it named, for as long as it is owed any.
func TestAFormerPoolKeepsItsFiles(t *testing.T) {
	addr := refusing(t)
	h, put := configured(t, "")
	file := func(name, text string) { members(t, filepath.Join(h.cfg.ConfigMount, name), text) }
	file("old-time", "17s\n")
	file("other", "of nobody")
	put("pools:\n  old: {collectors: 'json+tcp://" + addr + "?name=c', secrets: {timeout: old-time}}\ndefaults: {pools: [old]}\n")
	first := h.untilVersion("")
	r := h.run(1, nil)
	r.write("one")
	h.until("it has been read", func(s admin.Status) bool { return s.Streams[0].BacklogBytes > 0 })
	for _, name := range []string{"old-time", "other"} {
		if err := os.Remove(filepath.Join(h.cfg.ConfigMount, name)); err != nil {
			t.Fatal(err)
		}
	}
	put("pools:\n  new: {collectors: 'json+tcp://" + addr + "?name=d'}\ndefaults: {pools: []}\n")
	second := h.untilVersion(first)
	for range 2 { // it is kept over versions and processes
		var former map[string]*config.Pool
		text, err := os.ReadFile(filepath.Join(h.cfg.StateDir, "pools.json"))
		if err == nil {
			err = json.Unmarshal(text, &former)
		}
		def := former["old"]
		if def == nil {
			t.Fatalf("the pool is not known any more: %v", err)
		}
		if err := h.plugin.pools.Validate(def); err != nil {
			t.Errorf("the pool cannot be opened any more: %v", err)
		}
		if _, err := os.Stat(filepath.Join(h.plugin.pools.Config, "other")); !os.IsNotExist(err) {
			t.Errorf("a file that no pool names is kept (%v)", err)
		}
		put("pools:\n  new: {collectors: 'json+tcp://" + addr + "?name=e'}\ndefaults: {pools: []}\n")
		h.untilVersion(second)
		h.restart()
	}
	r.stop()
}

// That the file is damaged says nothing of the records.
func TestAPoolThatIsForgottenIsNotGivenUpAtOnce(t *testing.T) {
	addr := refusing(t)
	h, put := configured(t, "")
	put("pools:\n  old: {collectors: 'json+tcp://" + addr + "?name=c'}\ndefaults: {pools: [old]}\n")
	first := h.untilVersion("")
	r := h.run(1, nil)
	r.write("one")
	h.until("it has been read", func(s admin.Status) bool { return s.Streams[0].BacklogBytes > 0 })
	put("pools:\n  new: {collectors: 'json+tcp://" + addr + "?name=d'}\ndefaults: {pools: []}\n")
	h.untilVersion(first)
	file := filepath.Join(h.cfg.StateDir, "pools.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.restart()
	h.until("it waits", func(s admin.Status) bool { return len(s.Streams) == 1 && s.Streams[0].BacklogBytes > 0 })
	if text, err := os.ReadFile(file + ".damaged"); err != nil || string(text) != "{" {
		t.Errorf("the damaged file is %q, %v", text, err)
	}
	r.stop()
}

// openID is what tells the collector of a pool in use from others.
func (h *host) openID(pool string) string {
	h.t.Helper()
	is, done, err := h.plugin.pools.Use(h.plugin.conf.Current().Pools[pool])
	if err != nil {
		h.t.Fatal(err)
	}
	defer done()
	return is.Collectors[0].ID
}

// A file that is not beside the configuration counts when it changes, too; one
// that cannot be used leaves the pool as it is, until it can.
func TestAPoolsFileOfTheHostChanges(t *testing.T) {
	addr, lines := collector(t)
	secret := filepath.Join(t.TempDir(), "time")
	members(t, secret, "17s")
	h, _ := configured(t, fmt.Sprintf("pools:\n  web: {collectors: 'json+tcp://%s?name=c', secrets: {timeout: %s}}\ndefaults: {pools: [web]}\n", addr, inEtc+secret))
	r := h.run(1, nil)
	r.write("one")
	expect(t, lines, "one")
	version, was := h.plugin.Status().Config.Version, h.openID("web")
	for _, step := range []struct {
		text    string
		changes bool
	}{{"17s", false}, {"18s", true}, {"", false}, {"nonsense", false}, {"19s", true}} {
		members(t, secret, step.text)
		h.plugin.pools.Recheck()
		is := h.openID("web")
		if (is != was) != step.changes {
			t.Errorf("%q: the collector is another one: %v", step.text, is != was)
		}
		was = is
		line := "with " + step.text
		r.write(line)
		expect(t, lines, line)
	}
	if got := h.plugin.Status().Config.Version; got != version {
		t.Errorf("version %s, was %s", got, version)
	}
	r.stop()
}

// What a source named last may be of no use for this pool. Its containers start.
func TestMembersThatWereKnownCannotBeUsed(t *testing.T) {
	addr, lines := collector(t)
	list := filepath.Join(t.TempDir(), "list")
	h := newHost(t, "")
	before := fmt.Sprintf(`{"file://%s": [{"Name": "x", "Weight": 1, "URL": "of-before://127.0.0.1:1"}]}`, inEtc+list)
	if err := os.WriteFile(filepath.Join(h.cfg.StateDir, "collectors.json"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	h.restart()
	r := h.run(1, map[string]string{"collectors": "file://" + inEtc + list})
	r.write("one")
	members(t, list, "json+tcp://"+addr)
	expect(t, lines, "one")
	r.stop()
}
