package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dockline/dockline/test/docs"
)

// given hands a block that is no command to the program that reads it.
func (w *world) given(b docs.Block) {
	w.Helper()
	switch b.Kind {
	case "collectors":
		w.collectorLists(b)
	case "yaml":
		w.yaml(b)
	case "json":
		w.daemonJSON(b)
	case "record":
		w.captured(b)
	case "nats":
		w.files(b.Text)
		w.rack1.write("/tmp/nats.conf", b.Text)
		w.rack1.sh("mkdir -p /var/lib/nats; nats-server -t -c /tmp/nats.conf")
	case "ini":
		w.ini(b)
	default:
		w.Fatalf("%s: nothing here reads a block of %s", b.Place(), b.Kind)
	}
}

// yaml is known by what stands at its top.
func (w *world) yaml(b docs.Block) {
	w.Helper()
	var top map[string]any
	if err := yaml.Unmarshal([]byte(b.Text), &top); err != nil {
		w.Fatalf("%s: %v", b.Place(), err)
	}
	has := func(keys ...string) bool {
		for _, k := range keys {
			if _, is := top[k]; is {
				return true
			}
		}
		return false
	}
	switch {
	case has("pools", "routes"):
		w.checkConfig(b, b.Text)
	case has("services", "networks"):
		w.compose(b)
	case has("scrape_configs"):
		dir := w.rack1.tree() + "/plugin-config/prometheus"
		w.rack1.write(dir+"/documented.yml", b.Text)
		w.rack1.sh("promtool check config " + dir + "/documented.yml")
	default:
		w.Fatalf("%s: nothing here reads such YAML", b.Place())
	}
}

// checkConfig asks the plugin whether it would take a configuration. What that
// names below /etc/dockline, or beside itself, is there.
func (w *world) checkConfig(b docs.Block, text string) {
	w.Helper()
	w.files(text)
	w.rack1.write("/etc/dockline/dockline-log.yaml", text)
	ctx, cancel := w.rack1.context()
	defer cancel()
	f, err := os.Open(w.built("plugins/dockline-log/rootfs/dockline-log"))
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	w.rack1.put("/root/dockline-log", f, "755")
	out, err := w.rack1.Command(ctx, "/root/dockline-log", "check-config", "/etc/dockline/dockline-log.yaml").CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("arning")) {
		w.Errorf("%s: the plugin would not take this: %v\n%s\n%s", b.Place(), err, text, out)
	}
}

var comment = regexp.MustCompile(`\s+#.*`)

// collectorLists has the plugin read each line as what COLLECTORS can be.
func (w *world) collectorLists(b docs.Block) {
	w.Helper()
	for line := range strings.Lines(b.Text) {
		list := strings.TrimSpace(comment.ReplaceAllString(line, ""))
		text, err := yaml.Marshal(map[string]any{"pools": map[string]any{"default": map[string]any{"collectors": list}}})
		if err != nil {
			w.Fatal(err)
		}
		w.checkConfig(b, string(text))
	}
}

var named = regexp.MustCompile(`/etc/[a-z]+/[\w.-]+\.(pem|key|password|token)|[\w-]+\.(pem|key|password|token)`)

// files makes the certificates and secrets that a text names.
func (w *world) files(text string) {
	w.Helper()
	for _, name := range named.FindAllString(text, -1) {
		if !strings.HasPrefix(name, "/") {
			name = "/etc/dockline/" + name
		}
		w.file(name)
	}
}

func (w *world) file(name string) {
	w.Helper()
	base, dir := filepath.Base(name), filepath.Dir(name)
	pair := base == "server.pem" || base == "server.key" || base == "client.pem" || base == "client.key"
	switch {
	case base == "ca.pem":
		w.rack1.write(name, string(w.authority.PEM))
	case pair:
		kind, _, _ := strings.Cut(base, ".")
		p, err := w.authority.Issue(24*time.Hour, "logs.example")
		if err != nil {
			w.Fatal(err)
		}
		w.rack1.write(dir+"/"+kind+".pem", string(p.Cert))
		w.rack1.put(dir+"/"+kind+".key", bytes.NewReader(p.Key), "600")
	default:
		w.rack1.put(name, strings.NewReader("a-long-random-text\n"), "600")
	}
}

// daemonJSON has the engine read its configuration.
func (w *world) daemonJSON(b docs.Block) {
	w.Helper()
	w.rack1.write("/etc/docker/daemon.json", b.Text)
	if _, err := w.rack1.systemctl([]string{"restart", "docker"}); err != nil {
		w.Fatalf("%s: %v", b.Place(), err)
	}
}

// compose has docker-compose make what the file says, and leaves it.
func (w *world) compose(b docs.Block) {
	w.Helper()
	dir := fmt.Sprintf("/root/compose-%d", b.Line)
	w.rack1.write(dir+"/docker-compose.yml", b.Text)
	ctx, cancel := w.rack1.context()
	defer cancel()
	cmd := w.rack1.Command(ctx, "sh", "-c", `cd "$1" && docker-compose up --no-start && docker-compose up -d`, "sh", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Errorf("%s: docker-compose up: %v\n%s", b.Place(), err, out)
	}
}

// ini has journald read a file, which the first line names, and say what it does
// not understand.
func (w *world) ini(b docs.Block) {
	w.Helper()
	name, ok := strings.CutPrefix(strings.SplitN(b.Text, "\n", 2)[0], "# ")
	if !ok {
		w.Fatalf("%s: the first line does not say where this belongs", b.Place())
	}
	w.reset()
	w.rack1.write(name, b.Text)
	w.journald()
	said, err := os.ReadFile(filepath.Join(w.rack1.dir, "systemd-journald.log"))
	if err != nil || len(bytes.TrimSpace(said)) > 0 {
		w.Errorf("%s: journald says, %v:\n%s", b.Place(), err, said)
	}
	w.rack1.sh("rm " + name)
}
