package engine

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExecRoot(t *testing.T) {
	config := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(config, []byte(`{"exec-root": "/run/of-file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	none := "--config-file=" + config + "x"
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"with a sign":      {[]string{"/usr/bin/dockerd", "--exec-root=/run/a", "-H", "fd://"}, "/run/a"},
		"without":          {[]string{"dockerd", "--exec-root", "/run/a"}, "/run/a"},
		"by its file":      {[]string{"dockerd", "--config-file", config}, "/run/of-file"},
		"said, and a file": {[]string{"dockerd", "--config-file=" + config, "--exec-root=/run/a"}, "/run/a"},
		"nothing said":     {[]string{"dockerd", none}, ""},
		"cut off":          {[]string{"dockerd", none, "--exec-root"}, ""},
		"another program":  {[]string{"grep", "--exec-root=/run/a"}, ""},
		"a kernel's":       {[]string{""}, ""},
	} {
		if got := execRoot(tc.args); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// serve is an engine that has these plugins.
func serve(t *testing.T, status int, plugins string) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "e") // t.TempDir's are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, plugins)
	}))
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	c, err := Dial(Options{Host: "unix://" + l.Addr().String(), Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPlugin(t *testing.T) {
	one := func(name, id, socket string, enabled bool) string {
		return fmt.Sprintf(`{"Name":%q,"Id":%q,"Enabled":%v,"Config":{"Interface":{"Socket":%q}}}`, name, id, enabled, socket)
	}
	list := func(of ...string) string { return "[" + strings.Join(of, ",") + "]" }
	log, other := "dockline-log.sock", "dockline-net.sock"
	for name, tc := range map[string]struct {
		status        int
		plugins, name string
		want          string // its id, or what the error says
	}{
		"one":                     {200, list(one("a", "1", other, true), one("lines:v2", "2", log, true)), "", "2"},
		"another is disabled":     {200, list(one("a", "1", log, false), one("b", "2", log, true)), "", "2"},
		"two":                     {200, list(one("a", "1", log, true), one("b", "2", log, true)), "", "2 plugins are dockline-log: a, b; say which one with --plugin"},
		"the one that is named":   {200, list(one("a:latest", "1", log, true), one("b", "2", log, true)), "a", "1"},
		"by the beginning of ids": {200, list(one("a", "1f", log, true), one("b", "2f", log, true)), "2", "2f"},
		"disabled":                {200, list(one("a", "1", log, false)), "", "a is installed but not enabled: docker plugin enable a"},
		"another name":            {200, list(one("a", "1", log, true)), "c", `no plugin "c" of the engine at`},
		"none":                    {200, "[]", "", "dockline-log is not installed in the engine at"},
		"podman":                  {404, `{"message":"Not Found"}`, "", "it is podman, perhaps, and not docker's engine: Not Found"},
		"an error":                {500, `{"message":"no space left"}`, "", "no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := serve(t, tc.status, tc.plugins).Plugin(t.Context(), Log, tc.name)
			if err == nil && p.ID != tc.want || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q, %v; want %s", p.ID, err, tc.want)
			}
		})
	}
}

// The engine of a user has its sockets beside its own.
func TestAdminSocketBesideTheEngines(t *testing.T) {
	c := serve(t, 200, "[]")
	p := Plugin{Name: "a", ID: strings.Repeat("f", 64)}
	if _, err := c.AdminSocket(p); err == nil || !strings.Contains(err.Error(), "a is enabled but its socket is not there") {
		t.Errorf("%v", err)
	}
	want := filepath.Join(filepath.Dir(c.socket), "docker/plugins", p.ID, "admin.sock")
	if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.AdminSocket(p); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}
