package logdriver

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/reload"
)

// canary is a secret, with what a URL has to encode, and parts that may turn up alone.
const canary = "cAnArY1 cAnArY2/cAnArY3+cAnArY4=%cAnArY5@cAnArY6,cAnArY7:cAnArY8#cAnArY9?cAnArY0"

// sings reports where in a text a part of the canary is, in any form.
func sings(text string) string {
	at := strings.Index(strings.ToLower(text), "canary")
	for _, form := range [][]byte{[]byte("user:" + canary), []byte("user:cAnArY1"), []byte(canary)} {
		if at < 0 {
			at = strings.Index(text, base64.StdEncoding.EncodeToString(form))
		}
	}
	if at < 0 {
		return ""
	}
	return text[max(0, at-200):min(len(text), at+100)]
}

// where are the places of a collector's URL at which somebody may put a secret:
// rightly encoded, and as people type it.
func where(scheme, host string) (all []string) {
	for _, secret := range []string{url.QueryEscape(canary), strings.ReplaceAll(url.PathEscape(canary), ":", "%3A"), canary, "cAnArY1", "1/cAnArY2", "5,cAnArY7", "5#cAnArY9", "5?cAnArY0=1", "%cAnArY5", "cAnArY1;cAnArY2"} {
		for _, form := range []string{
			"%s://user:" + secret + "@%s", "%s://" + secret + "@%s", "%s://:" + secret + "@%s", "%s://user:" + secret + "@%s:x", "%s://user:" + secret + "@%s/path#f",
			"%s://%s?header.X-Api-Key=" + secret, "%s://%s?query.key=" + secret, "%s://%s?tokn=" + secret, "%s://%s?password=" + secret,
			"%s://%s?header.X-Api-Key=" + secret + "&timeout=never", "%s://%s?header.X-Api-Key=" + secret + "&header.X-Api-Key=" + secret,
			"%s://%s?header.Authorization=" + secret, "%s://user:" + secret + "@%s?password-file=none", "%s://user:" + secret + "@%s?token-file=none",
			"%s://user:" + secret + "@%s?topic=%7B%7B", "%s://user:" + secret + "@%s?subject=a..b", "%s://user:" + secret + "@%s?sasl=plain&topic=t",
		} {
			all = append(all, strings.NewReplacer("%s://", scheme+"://", "@%s", "@"+host, "://%s", "://"+host).Replace(strings.Replace(form, "%s://%s", scheme+"://"+host, 1)))
		}
	}
	return all
}

// No error about a collector or a source shows a secret that is in its URL, and
// nothing that is made for people shows one of those that are taken.
func TestNoErrorShowsASecret(t *testing.T) {
	host := newHost(t, "").plugin.pools.Host
	host.Config = t.TempDir()
	schemes := append(pool.Schemes(), "http", "jsn+tcp", "consul+json+http", "etcd+json+http", "dns+json+http", "srv+kafka", "file", "consul", "etcd", "%")
	taken := 0
	for _, scheme := range schemes {
		if strings.HasSuffix(scheme, "+tls") || strings.HasSuffix(scheme, "+https") {
			continue // they take the same ways
		}
		for _, text := range where(scheme, "192.0.2.1:1") {
			for what, err := range map[string]error{
				"pool":     host.Validate(&config.Pool{Name: "p", List: text}),
				"document": onlyError(discover.ParseDocument(text, discover.Host{})),
				"setting":  onlyError(ConfigFromEnv(func(key string) string { return map[string]string{"CONFIG": text}[key] })),
				"log-opt":  (&config.Pool{List: text}).CannotBe(onlyError(discover.Parse(text, discover.Host{}))),
			} {
				if err == nil {
					taken++
				} else if said := sings(err.Error()); said != "" {
					t.Errorf("%s %s: %s", what, text, said)
				}
			}
			shown := redact.List(text) + " " + reload.Open(reload.Settings{State: host.Config, Key: text}, quiet).Status().Source
			if sources, err := discover.Parse(text, discover.Host{}); err == nil {
				for _, s := range sources {
					shown += " " + s.String()
				}
			}
			if said := sings(shown); said != "" {
				t.Errorf("%s is shown as %s", text, said)
			}
		}
	}
	if taken < 100 {
		t.Errorf("only %d of the URLs are right", taken)
	}
}

func onlyError[T any](_ T, err error) error { return err }

// Nothing that an operator sees of a plugin at work shows a secret: not one that
// a collector repeats, nor one that stands where it is wrong.
func TestNothingShowsASecret(t *testing.T) {
	parrot := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "not with %q, %s, %s, %s", r.Header["X-Api-Key"], password, r.Header.Get("Authorization"), r.URL.RawQuery)
	}))
	t.Cleanup(parrot.Close)
	lost := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(lost.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })

	var log lockedBuffer
	mount := t.TempDir()
	h := &host{t: t, dir: t.TempDir(), cfg: Config{ConfigMount: mount, ConfigMountedFrom: "/srv/conf", HostName: "h1", Etc: "/", SpoolMax: 1 << 30, PerContainer: true}}
	h.cfg.StateDir = filepath.Join(h.dir, "state")
	h.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	members(t, filepath.Join(mount, "secret"), "cAnArY1")
	secret := url.QueryEscape(canary)
	collectors := map[string]string{}
	for name, at := range map[string]string{"parrot": parrot.Listener.Addr().String(), "lost": lost.Listener.Addr().String(), "silent": silent.Addr().String()} {
		for _, scheme := range []string{"json+http", "loki+http", "elasticsearch+http", "otlp+http", "otlp+grpc", "nats", "kafka"} {
			parameters := "?timeout=1s&header.X-Api-Key=" + secret
			switch scheme {
			case "nats":
				parameters = "?timeout=1s&subject=s"
			case "kafka":
				parameters = "?timeout=1s&topic=t&sasl=plain"
			case "json+http", "loki+http", "elasticsearch+http", "otlp+http":
				parameters += "&query.key=" + secret
			}
			id := name + "-" + strings.ReplaceAll(scheme, "+", "-")
			collectors[id] = scheme + "://user:" + url.PathEscape(canary) + "@" + at + parameters
			collectors[id+"-file"] = scheme + "://user@" + at + parameters + "&password-file=secret"
		}
	}
	var text strings.Builder
	text.WriteString("pools:\n")
	for _, id := range slices.Sorted(maps.Keys(collectors)) {
		fmt.Fprintf(&text, "  %s: {collectors: '%s'}\n", id, collectors[id])
	}
	members(t, filepath.Join(mount, config.FileName), text.String()+"defaults: {pools: []}\n")
	h.start()
	t.Cleanup(func() { h.plugin.Close() })
	h.untilVersion("")
	n := 0
	for id := range collectors {
		n++
		h.run(n, map[string]string{"pool": id}).write("a line")
	}
	n++
	own := h.run(n, map[string]string{"collectors": collectors["parrot-json-http"]})
	own.write("a line")
	h.until("all have been tried", func(s admin.Status) bool {
		down := 0
		for _, c := range s.Collectors {
			if !c.Healthy {
				down++
			}
		}
		return down > len(collectors)/2
	})
	const named = "password: cAnArY1/cAnArY2: no such file" // the name of a file is shown
	for _, bad := range []string{"pools:\n  a: {collectors: 'http://user:" + canary + "@h'}\n", "pools:\n  a: {secrets: {password: cAnArY1/cAnArY2}, collectors: 'relp://a:1'}\n", "pools:\n  a: {options: {header.X: '\x01'}, collectors: 'json+http://u:cAnArY1@a:1'}\n"} {
		before := h.plugin.Status().Config.Refused
		members(t, filepath.Join(mount, config.FileName), bad)
		h.until("it is refused", func(s admin.Status) bool { return s.Config.Refused != before })
		if said := sings(strings.ReplaceAll(h.plugin.Status().Config.Refused, named, "")); said != "" {
			t.Errorf("refused: %s", said)
		}
	}
	members(t, filepath.Join(mount, config.FileName), text.String()+"defaults: {pools: []}\n")
	seen := log.String()
	for _, path := range []string{"/status", "/metrics", "/config", "/poison", "/healthz", "/readyz", "/where?container=" + own.info.ContainerID, "/explain?container=" + own.info.ContainerID, "/explain?pool=parrot-nats&key=x"} {
		_, body := h.get(t.Context(), path)
		seen += "\n== " + path + "\n" + body
	}
	for line := range strings.Lines(strings.ReplaceAll(seen, named, "")) {
		if said := sings(line); said != "" {
			t.Errorf("shown: %s", said)
		}
	}
	if !strings.Contains(seen, "parrot-json-http") || !strings.Contains(seen, "401 Unauthorized: not with") {
		t.Error("the parrot was not heard")
	}
	if _, err := os.Stat(filepath.Join(mount, "secret")); err != nil {
		t.Error(err)
	}
}
