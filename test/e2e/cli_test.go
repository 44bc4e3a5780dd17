package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docker dockline, with both plugins and itself installed as make install does,
// typed by a user of a real docker command.
func TestDockerDockline(t *testing.T) {
	ctx := testContext(t)
	e := bareEngine(ctx, t)
	b, run := newBench(t, ctx, e), asOperator(ctx, t, e, t.TempDir())
	for _, args := range [][]string{{"scripts/plugin.sh", "install", "dockline-log", "dockline-net"}, {"scripts/cli.sh", "install"}} {
		if out, err := run(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	askForLogs(b, run)
	askForNetworks(b, run)
	says, fails := sayers(b, run)
	says(`"Kind":"dockline-log","Name":"dockline-log:latest".*"Version":"[^"]+".*"Kind":"dockline-net".*"Version":"[^"]+".*"Engine":\{"Addr":"unix:`, "dockline", "version", "--format", "json")
	fails("is not a docker command", "dockline", "log", "nonsense")
	report := filepath.Join(t.TempDir(), "report.tar.gz")
	says(`look at it before you send it`, "dockline", "bug-report", "-o", report)
	if st, err := os.Stat(report); err != nil || st.Size() < 10<<10 || st.Mode().Perm() != 0o600 {
		t.Errorf("the report: %v %v", st, err)
	}
	says("", "plugin", "disable", "dockline-net")
	fails("dockline-net:latest is installed but not enabled: docker plugin enable dockline-net:latest", "dockline", "net", "ls")
	if out, err := run("scripts/plugin.sh", "uninstall", "dockline-log", "dockline-net"); err != nil {
		t.Errorf("uninstall: %v\n%s", err, out)
	}
}

// sayers return what types a docker command and looks at what it says.
func sayers(b *bench, run func(...string) (string, error)) (says, fails func(want string, args ...string)) {
	says = func(want string, args ...string) {
		b.Helper()
		out, err := run(append([]string{"docker"}, args...)...)
		if err != nil || !regexp.MustCompile("(?m)"+want).MatchString(out) {
			b.Errorf("docker %s says %v\n%s\nwithout %q", strings.Join(args, " "), err, out, want)
		}
	}
	fails = func(want string, args ...string) {
		b.Helper()
		if out, err := run(append([]string{"docker"}, args...)...); err == nil || !strings.Contains(out, want) {
			b.Errorf("docker %s says %v\n%s\nwithout %q", strings.Join(args, " "), err, out, want)
		}
	}
	return says, fails
}

func askForLogs(b *bench, run func(...string) (string, error)) {
	says, _ := sayers(b, run)
	says(`^  dockline\*? +Look into dockline's`, "help")
	says(`^Usage:  docker dockline log where \[OPTIONS\] CONTAINER$`, "help", "dockline", "log", "where")
	b.collector("c1", "relp")
	b.start("asked", nil, "workload", "seq", "-n", "300")
	b.finish("asked")
	b.settle()
	says("everything is delivered", "dockline", "log", "drain", "--timeout", "30s")
	says(`^Containers: +0 that log, 1 that ended$`, "dockline", "log", "status")
	says(`^asked 0B$`, "dockline", "log", "streams", "--format", "{{.Name}} {{.Backlog}}")
	says(`^c1 .* 300 .* yes$`, "dockline", "log", "where", "asked", "--since", "10m")
	says(`^1 +c1 +1 +100.0% +nothing is sent to the pool`, "dockline", "log", "explain", "asked")
	says(`^asked$`, "__complete", "dockline", "log", "where", "")
	says(`^explain\b`, "__complete", "dockline", "log", "ex")

	if err := b.engine.Remove(b.ctx, b.names...); err != nil {
		b.Error(err)
	}
}

func askForNetworks(b *bench, run func(...string) (string, error)) {
	says, _ := sayers(b, run)
	says(`^[0-9a-f]{64}$`, "network", "create", "-d", "dockline-net:latest", "--ipam-driver", "dockline-net:latest", "-o", "mode=bridge", "--subnet", "10.213.7.0/28", "backstage")
	says(`^backstage bridge 10.213.7.0/28 0$`, "dockline", "net", "ls", "--format", "{{.Name}} {{.Mode}} {{.Subnets}} {{.Endpoints}}")
	says(`^all is as it is meant to be: networks 1, endpoints 0$`, "dockline", "net", "check")
	says(`^repaired 0,`, "dockline", "net", "reconcile")
	says(`^10.213.7.5 of 10.213.7.0/28 is reserved for db$`, "dockline", "net", "addr", "reserve", "10.213.7.5", "--network", "backstage", "--name", "db")
	says(`^10.213.7.5 +backstage +reserved +db `, "dockline", "net", "addr", "ls")
	says(`not reserved any more`, "dockline", "net", "addr", "unreserve", "10.213.7.5", "--network", "backstage")
	says(`^backstage$`, "network", "rm", "backstage")
}
