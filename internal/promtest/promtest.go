// Package promtest holds, in tests, what a plugin serves against a real
// Prometheus: it is scraped, rules are loaded, and the queries of dashboards are
// asked.
package promtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testport"
)

const (
	scrapes  = 4 // that rates are made of, at least
	patience = 3 * time.Minute
)

// Prometheus is a server of its own, which ends with the test.
type Prometheus struct {
	t      testing.TB
	setup  Setup
	url    string
	client *http.Client
	at     string // when queries are evaluated: at a scrape that succeeded, for a loaded machine may miss one
}

// Sample is one series of an answer.
type Sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// Setup is what a Prometheus scrapes and evaluates.
type Setup struct {
	Rules   []string          // files, by their whole paths
	Targets map[string]string // host:port, of more of them with commas between, by the name of the job
	Every   time.Duration     // between scrapes, and between evaluations; 0: half a second
	// Command starts the server where its targets are, and Dial connects to there;
	// nil: here.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	// Address is where the server listens, there; "": at a free port here.
	Address string
}

// Start scrapes the handler as a job until that has succeeded some times. rules
// are files, by their whole paths.
func Start(t testing.TB, rules []string, job string, h http.Handler) *Prometheus {
	t.Helper()
	target := httptest.NewServer(h)
	t.Cleanup(target.Close)
	p := Run(t, Setup{Rules: rules, Targets: map[string]string{job: strings.TrimPrefix(target.URL, "http://")}})
	p.await("scrapes", func() bool {
		got := p.Query(fmt.Sprintf("timestamp(up == 1) and sum_over_time(up[1h]) >= %d", scrapes))
		if len(got) == 1 {
			p.at, _ = got[0].Value[1].(string)
		}
		return p.at != ""
	})
	return p
}

// Run starts a server, and waits until it answers.
func Run(t testing.TB, s Setup) *Prometheus {
	t.Helper()
	dir := t.TempDir()
	if s.Every == 0 {
		s.Every = 500 * time.Millisecond
	}
	if s.Command == nil {
		s.Command = exec.CommandContext
	}
	conf := fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}\nrule_files: [%[2]s]\nscrape_configs:\n",
		model(s.Every), strings.Join(s.Rules, ", "))
	for job, target := range s.Targets {
		conf += fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: ['%s']}]}\n", job, strings.ReplaceAll(target, ",", "', '"))
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Prometheus{t: t, setup: s, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.Dial}}}
	p.run(file, dir)
	return p
}

// model writes a duration as Prometheus reads it.
func model(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// run starts the server.
func (p *Prometheus) run(file, dir string) {
	p.t.Helper()
	address := p.setup.Address
	if address == "" {
		address = testport.Of(p.t)
	}
	var said bytes.Buffer
	cmd := p.setup.Command(context.Background(), "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // with which it would die
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if started <- err; err == nil {
			_ = cmd.Wait() // killed, as a rule
		}
	}()
	if err := <-started; err != nil {
		p.t.Fatalf("start Prometheus (scripts/setup.sh installs it): %v", err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-ended })
	p.url = "http://" + address
	if !p.ready(ended) {
		p.t.Fatalf("Prometheus ended: %s", &said)
	}
}

func (p *Prometheus) ready(ended chan struct{}) bool {
	for {
		if res, err := p.client.Get(p.url + "/-/ready"); err == nil { //nolint:noctx // a test of its own server
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-ended:
			return false
		case <-time.After(50 * time.Millisecond): // it tells nobody when it is ready
		}
	}
}

func (p *Prometheus) await(what string, done func() bool) {
	p.t.Helper()
	if !p.awaits(done) {
		p.t.Fatalf("no %s within %v", what, patience)
	}
}

func (p *Prometheus) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer := struct {
		Error string
		Data  any
	}{Data: into}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", res.Status, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", res.Status, answer.Error)
	}
	return nil
}

// Query returns the series that an expression has. One that cannot be evaluated
// fails the test.
func (p *Prometheus) Query(expr string) []Sample {
	p.t.Helper()
	return p.queryAt(expr, p.at)
}

// queryAt evaluates at a time in seconds since 1970; "" is now.
func (p *Prometheus) queryAt(expr, at string) []Sample {
	p.t.Helper()
	var data struct{ Result []Sample }
	q := url.Values{"query": {expr}}
	if at != "" {
		q.Set("time", at)
	}
	if err := p.get("/api/v1/query?"+q.Encode(), &data); err != nil {
		p.t.Errorf("%s\n%v", expr, err)
	}
	return data.Result
}

// CheckRules wants all rules evaluated without an error, and series of those
// that record.
func (p *Prometheus) CheckRules() {
	p.t.Helper()
	type rule struct{ Name, Type, Health, LastError string }
	var data struct{ Groups []struct{ Rules []rule } }
	p.await("evaluation of all rules", func() bool {
		if err := p.get("/api/v1/rules", &data); err != nil {
			p.t.Fatal(err)
		}
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health == "unknown" {
					return false
				}
			}
		}
		return len(data.Groups) > 0
	})
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				p.t.Errorf("%s: %s", r.Name, r.LastError)
			}
			if r.Type == "recording" && len(p.queryAt(`last_over_time(`+r.Name+`[1h])`, "")) == 0 {
				p.t.Errorf("%s records nothing", r.Name)
			}
		}
	}
}
