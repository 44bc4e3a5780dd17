// Package arch holds the rules of the layout as tests: dependencies point one
// way, along the data path, and some libraries are seen by one package only.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dockline/dockline"

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Doc          string
	GoFiles      []string
}

// packages lists every package of the module as the go command sees it.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", module+"/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// under reports whether the import path is the folder (relative to the module) or below it.
func under(importPath, folder string) bool {
	full := path.Join(module, folder)
	return importPath == full || strings.HasPrefix(importPath, full+"/")
}

// forbidden lists, for a folder, the folders of ours that it must not import.
var forbidden = map[string][]string{
	"internal":            {"logdriver", "netdriver", "cli", "cmd", "test"},
	"netdriver":           {"logdriver", "cli", "cmd", "test"},
	"logdriver":           {"netdriver", "cli", "cmd", "test"},
	"cli":                 {"cmd", "test"},
	"cli/engine":          {"logdriver", "netdriver"},
	"cli/format":          {"logdriver", "netdriver", "internal"},
	"logdriver/record":    {"logdriver/process", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/process":   {"logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs", "logdriver/container", "logdriver/config"},
	"logdriver/spool":     {"logdriver/record", "logdriver/process", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/route":     {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/stream":    {"logdriver/process", "logdriver/record", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/ship":      {"logdriver/spool", "logdriver/stream", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs", "logdriver/history"},
	"logdriver/discover":  {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/sink", "logdriver/engine", "logdriver/readlogs"},
	"logdriver/field":     {"logdriver/container", "logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/config":    {"logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/resolve", "logdriver/readlogs"},
	"logdriver/resolve":   {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/readlogs":  {"logdriver/process", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover"},
	"logdriver/rescue":    {"logdriver/record", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/place":     {"logdriver/process", "logdriver/record", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs", "logdriver/container"},
	"logdriver/admin":     {"logdriver/record", "logdriver/process", "logdriver/route", "logdriver/sink", "logdriver/discover", "logdriver/resolve", "logdriver/readlogs", "logdriver/place", "logdriver/rescue", "logdriver/refusal"},
	"logdriver/dispatch":  {"logdriver/record", "logdriver/process", "logdriver/stream", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/resolve", "logdriver/readlogs", "logdriver/history", "logdriver/reload"},
	"logdriver/pool":      {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/engine", "logdriver/readlogs", "logdriver/history", "logdriver/container", "logdriver/resolve"},
	"logdriver/reload":    {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/readlogs", "logdriver/container", "logdriver/pool"},
	"logdriver/refusal":   {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/discover", "logdriver/readlogs", "logdriver/rescue"},
	"logdriver/poison":    {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/history":   {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/ship", "logdriver/route", "logdriver/sink", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"logdriver/engine":    {"logdriver/sink", "logdriver/record"},
	"logdriver/sink":      {"logdriver/process", "logdriver/record", "logdriver/spool", "logdriver/stream", "logdriver/route", "logdriver/engine", "logdriver/discover", "logdriver/readlogs"},
	"netdriver/kernel":    {"netdriver/engine", "netdriver/network", "netdriver/endpoint", "netdriver/ipam", "netdriver/state", "netdriver/reconcile"},
	"netdriver/state":     {"netdriver/engine", "netdriver/network", "netdriver/endpoint", "netdriver/ipam", "netdriver/kernel", "netdriver/reconcile"},
	"netdriver/ipam":      {"netdriver/engine", "netdriver/network", "netdriver/endpoint", "netdriver/kernel", "netdriver/state", "netdriver/reconcile"},
	"netdriver/network":   {"netdriver/engine", "netdriver/endpoint", "netdriver/ipam", "netdriver/state", "netdriver/reconcile"},
	"netdriver/endpoint":  {"netdriver/engine", "netdriver/ipam", "netdriver/state", "netdriver/reconcile"},
	"netdriver/neighbour": {"netdriver/engine", "netdriver/network", "netdriver/endpoint", "netdriver/ipam", "netdriver/kernel", "netdriver/state", "netdriver/reconcile", "netdriver/watch"},
	"netdriver/watch":     {"netdriver/engine", "netdriver/state", "netdriver/reconcile"},
	"netdriver/probe":     {"netdriver/engine", "netdriver/endpoint", "netdriver/ipam", "netdriver/state", "netdriver/reconcile", "netdriver/admin"},
	"netdriver/dhcp":      {"netdriver/engine", "netdriver/endpoint", "netdriver/state", "netdriver/reconcile", "netdriver/watch", "netdriver/neighbour"},
	"netdriver/trace":     {"netdriver/engine", "netdriver/network", "netdriver/endpoint", "netdriver/ipam", "netdriver/state", "netdriver/reconcile", "netdriver/watch", "netdriver/admin"},
	"netdriver/admin":     {"netdriver/engine", "netdriver/state"},
	"netdriver/reconcile": {"netdriver/engine", "netdriver/ipam", "netdriver/state"},
	"netdriver/engine":    {"netdriver/state", "netdriver/reconcile"},
	"cmd/dockline-log":    {"netdriver", "cli"},
	"cmd/dockline-net":    {"logdriver", "cli"},
}

// only lists, for an outside library, the packages that may import it (tests aside).
var only = map[string][]string{
	"github.com/docker/docker/api/types/plugins/logdriver": {"logdriver/record"},
	"github.com/vishvananda/netlink":                       {"netdriver/kernel"},
	"github.com/vishvananda/netns":                         {"netdriver/kernel"},
	"github.com/google/nftables":                           {"netdriver/kernel"},
	"github.com/mdlayher/packet":                           {"netdriver/neighbour", "netdriver/dhcp"},
	"github.com/insomniacslk/dhcp":                         {"netdriver/dhcp"},
	"github.com/spf13/cobra":                               {"cli"},
	"github.com/containerd/fifo":                           {"logdriver/stream"},
	"github.com/miekg/dns":                                 {"logdriver/resolve"},
	"go.yaml.in/yaml":                                      {"logdriver/config"},
	"github.com/twmb/franz-go":                             {"logdriver/sink/kafka"},
	"github.com/nats-io/nkeys":                             {"logdriver/sink/nats"},
	"go.etcd.io/bbolt":                                     {"netdriver/state"},
	"go.etcd.io/etcd":                                      {"netdriver/ipam/etcd", "logdriver/discover", "internal/parrot"},
}

func TestDependenciesPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		for folder, not := range forbidden {
			if !under(p.ImportPath, folder) {
				continue
			}
			for _, imp := range p.Imports {
				for _, bad := range not {
					if under(imp, bad) {
						t.Errorf("%s imports %s: %s must not know %s", p.ImportPath, imp, folder, bad)
					}
				}
			}
		}
	}
}

// beside lists what stands beside the log plugin's data path, each with those of
// them that it may import; nothing on the path may.
var beside = map[string][]string{
	"logdriver/config":   nil,
	"logdriver/place":    nil,
	"logdriver/refusal":  nil,
	"logdriver/rescue":   nil,
	"logdriver/reload":   {"logdriver/config"},
	"logdriver/pool":     {"logdriver/config"},
	"logdriver/dispatch": {"logdriver/config", "logdriver/pool"},
	"logdriver/admin":    {"logdriver/config", "logdriver/pool", "logdriver/dispatch", "logdriver/reload"},
}

func TestWhatStandsBesideThePathIsNotKnownOnIt(t *testing.T) {
	for _, p := range packages(t) {
		folder := strings.TrimPrefix(p.ImportPath, module+"/")
		if !strings.HasPrefix(folder, "logdriver/") {
			continue
		}
		for _, imp := range p.Imports {
			other := strings.TrimPrefix(imp, module+"/")
			if _, is := beside[other]; is && !slices.Contains(beside[folder], other) {
				t.Errorf("%s imports %s, which stands beside the data path", folder, other)
			}
		}
	}
}

func TestSinksDoNotKnowEachOther(t *testing.T) {
	for _, p := range packages(t) {
		if !under(p.ImportPath, "logdriver/sink") {
			continue
		}
		for _, imp := range p.Imports {
			// Folders named internal hold what several sinks share on the wire, and
			// sink itself what all are given.
			if under(imp, "logdriver/sink") && imp != path.Join(module, "logdriver/sink") && !strings.Contains(imp, "/sink/internal/") {
				t.Errorf("%s imports %s: a sink must not know another", p.ImportPath, imp)
			}
		}
	}
}

func TestLibrariesAreSeenByOnePackage(t *testing.T) {
	for _, p := range packages(t) {
		if under(p.ImportPath, "test") {
			continue // the harness and its programs stand outside of the plugins
		}
		for _, imp := range p.Imports {
			for lib, allowed := range only {
				if imp != lib && !strings.HasPrefix(imp, lib+"/") {
					continue
				}
				ok := false
				for _, a := range allowed {
					ok = ok || under(p.ImportPath, a)
				}
				if !ok {
					t.Errorf("%s imports %s: only %v may", p.ImportPath, imp, allowed)
				}
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
