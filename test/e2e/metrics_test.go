package e2e

import (
	"io"
	"net/http"
	"strings"
)

// serves wants what the manual says of METRICS, METRICS_PER_CONTAINER and PPROF
// of a plugin with a container kept-twice and a configuration.
func (b *bench) serves(address string) {
	b.Helper()
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/metrics":      {http.StatusOK, `,name="kept-twice"} 1`},
		"/healthz":      {http.StatusOK, "ok: spool takes bytes\nok\n"},
		"/readyz":       {http.StatusOK, "ok: a configuration is in force\n"},
		"/status":       {http.StatusNotFound, ""},
		"/debug/pprof/": {http.StatusNotFound, ""},
	} {
		req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			b.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != want.status || !strings.Contains(string(body), want.says) {
			b.Errorf("%s: %d %s, %v; want %d with %q", path, res.StatusCode, body, err, want.status, want.says)
		}
		if path == "/metrics" && (!strings.Contains(string(body), "dockline_log_build_info{") || strings.Contains(string(body), `version="devel"`)) {
			b.Errorf("the build does not say what it is: %s", body)
		}
	}
	if got := adminGet(b.ctx, b.T, b.engine, "/debug/pprof/goroutine?debug=1"); !strings.Contains(got, "goroutine profile") {
		b.Errorf("no profile: %s", got)
	}
}
