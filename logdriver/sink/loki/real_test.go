//go:build loki

package loki

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

var program = flag.String("loki", "", "the program of Loki (make test-loki)")

// server is Loki itself, with what its limits_config is given, on loopback.
type server struct {
	t    *testing.T
	dir  string
	addr string
	cmd  *exec.Cmd
	said bytes.Buffer
}

const configuration = `
auth_enabled: %t
server: {http_listen_address: 127.0.0.1, http_listen_port: %s, grpc_listen_address: 127.0.0.1, grpc_listen_port: %s, log_level: warn}
common:
  path_prefix: %s
  instance_addr: 127.0.0.1
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: %[4]s/chunks, rules_directory: %[4]s/rules}}
schema_config:
  configs: [{from: 2020-10-24, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}]
analytics: {reporting_enabled: false}
ingester: {lifecycler: {min_ready_duration: 0s}}
%s
`

// documented is what the page tells to configure.
func documented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/sinks/loki.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "\n```yaml\n")
	block, _, found := strings.Cut(block, "\n```\n")
	if !found {
		t.Fatal("the page has no block of YAML")
	}
	return block
}

func startLoki(t *testing.T, tenants bool, limits string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), addr: testport.Of(t)}
	_, port, _ := net.SplitHostPort(s.addr)
	_, grpc, _ := net.SplitHostPort(testport.Of(t))
	text := fmt.Sprintf(configuration, tenants, port, grpc, s.dir, limits)
	if err := os.WriteFile(filepath.Join(s.dir, "loki.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run()
	t.Cleanup(s.kill)
	return s
}

// run starts it, and waits until it takes records.
func (s *server) run() {
	s.t.Helper()
	s.cmd = exec.Command(*program, "-config.file="+filepath.Join(s.dir, "loki.yaml"))
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.eventually(func() error {
		body, err := s.get("/ready", nil)
		if err == nil && !bytes.HasPrefix(body, []byte("ready")) {
			err = fmt.Errorf("%s", body)
		}
		return err
	})
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	if s.t.Failed() {
		s.t.Logf("Loki: %s", s.said.String())
		s.said.Reset()
	}
}

// eventually repeats try until it succeeds: Loki announces nothing.
func (s *server) eventually(try func() error) {
	s.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(2 * time.Minute); ; {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			s.t.Fatal(err)
		}
	}
}

func (s *server) get(path string, query url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.addr+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Scope-OrgID", "team-a")
	req.Close = true
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return body, err
}

// found is a record as Loki gives it back.
type found struct {
	Line   string
	Values map[string]string // labels, and structured metadata
}

// query returns what Loki has of the container, by the records' ids; twice is how
// many of them it gives more than once.
func (s *server) query() (all map[string]found, twice int, err error) {
	now := time.Now()
	query := url.Values{"query": {`{container_name="web-1"}`}, "limit": {"1000"}, "direction": {"forward"}}
	all = map[string]found{}
	for start := now.Add(-6 * 24 * time.Hour).UnixNano(); ; {
		query.Set("start", fmt.Sprint(start))
		query.Set("end", fmt.Sprint(now.Add(time.Hour).UnixNano()))
		body, err := s.get("/loki/api/v1/query_range", query)
		if err != nil {
			return nil, 0, err
		}
		var answer struct {
			Data struct {
				Result []struct {
					Stream map[string]string
					Values [][2]string
				}
			}
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, 0, err
		}
		n := 0
		for _, r := range answer.Data.Result {
			for _, v := range r.Values {
				var at int64
				if _, err := fmt.Sscan(v[0], &at); err != nil {
					return nil, 0, err
				}
				start = max(start, at+1)
				id := r.Stream["id"]
				if _, again := all[id]; again {
					twice++
				}
				all[id] = found{v[1], r.Stream}
				n++
			}
		}
		if n < 1000 {
			return all, twice, nil
		}
	}
}

// want waits until Loki has so many records of the container, each once.
func (s *server) want(n int) (all map[string]found) {
	s.t.Helper()
	s.eventually(func() (err error) {
		var twice int
		if all, twice, err = s.query(); err == nil && (len(all) != n || twice > 0) {
			err = fmt.Errorf("%d records, %d of them more than once; want %d, each once", len(all), twice, n)
		}
		return err
	})
	return all
}

func (s *server) open(params string) ship.Sink {
	s.t.Helper()
	host := sinktest.Host()
	host.Config = s.t.TempDir()
	return sinktest.Open(s.t, New, host, "loki+http://"+s.addr+"?"+params)
}

// since is when the records of these tests begin.
func since() int64 { return time.Now().Add(-time.Hour).UnixNano() }

// deliver sends the records, each in a batch with those of its hundred, and
// returns what was refused. It begins anew where the connection ended last, as a
// lane does.
func deliver(t *testing.T, s ship.Sink, records []ship.Record) (refused []ship.Refusal, errs []error) {
	t.Helper()
	const each = 100
	end := time.Now().Add(2 * time.Minute)
	for done := 0; done < len(records); {
		if time.Now().After(end) {
			t.Fatalf("%d of %d, %v", done, len(records), errs)
		}
		c := sinktest.Connect(t, s)
		tmpl := s.Prepare(sinktest.Meta())
		sent, acked := uint64(0), uint64(0)
		var err error
		for at := done; at < len(records) && err == nil; at += each {
			var dst []byte
			for i := at; i < min(at+each, len(records)); i++ {
				dst = c.Append(dst, tmpl, &records[i])
			}
			if err = c.Send(t.Context(), dst); err == nil {
				sent++
			}
		}
		for waited := error(nil); waited == nil && acked < sent; {
			acked, waited = c.Wait(t.Context(), acked)
			refused = append(refused, c.(ship.Refuser).Refused()...)
			err = cmp.Or(waited, err)
		}
		done += int(acked) * each
		if err != nil {
			errs = append(errs, err)
		}
		_ = c.Close()
	}
	return refused, errs
}

func lines(first int64, n int, text func(i int) string) (all []ship.Record) {
	for i := range n {
		at := first + int64(i)*1000
		all = append(all, ship.Record{Offset: uint64(i), Time: at, Stamped: at, Stderr: i%2 == 1, Line: []byte(text(i))})
	}
	return all
}

// What was sent is there, once, as it was, also when Loki was killed after it had
// taken it.
func TestLokiItself(t *testing.T) {
	l := startLoki(t, true, documented(t))
	s := l.open("tenant=team-a")
	all := lines(since(), 20_000, func(i int) string { return fmt.Sprint("line ", i) })
	all[3].Line = nil
	all[4].Line = []byte("a\xffb\x00c")
	all[5].Line = []byte(strings.Repeat("x", 240<<10-1000))
	all[6].Level, all[6].Fields = process.Error, sinktest.Fields()
	all[7].Line = []byte("ünï\n{}\"\\")
	all[8].Cut = true
	if refused, errs := deliver(t, s, all); len(refused) > 0 || len(errs) > 0 {
		t.Fatal(refused, errs)
	}
	l.kill()
	l.run()
	got := l.want(len(all))
	for i, r := range all {
		id := fmt.Sprintf("s1-%016x", i)
		f, line := got[id], got[id].exact()
		if i != 6 && !bytes.Equal(line, r.Line) {
			t.Errorf("%s is %.80q, want %.80q", id, line, r.Line)
		}
		want := map[string]string{"host": "host ü", "container_name": "web-1", "source": map[bool]string{false: "stdout", true: "stderr"}[r.Stderr], "tag": "täg/web"}
		if i == 6 {
			want["detected_level"], want["level"], want["status"], want["big"] = "error", "error", "200", "12345678901234567890"
		}
		if i == 8 {
			want["cut"] = "true"
		}
		for key, value := range want {
			if f.Values[key] != value {
				t.Fatalf("%s of %s is %q, want %q; all: %q", key, id, f.Values[key], value, f.Values)
			}
		}
	}
}

// exact is the line, byte for byte.
func (f found) exact() []byte {
	if text, exact := f.Values["line_base64"]; exact {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil
		}
		return raw
	}
	return []byte(f.Line)
}

// Of a request with some records that Loki takes in no case, all others arrive,
// and only those are refused.
func TestLokiRefuses(t *testing.T) {
	at := func(off time.Duration) func(r *ship.Record) {
		return func(r *ship.Record) { r.Time = time.Now().Add(off).UnixNano(); r.Stamped = r.Time }
	}
	l := startLoki(t, false, documented(t))
	arrived := 0
	for i, tc := range []struct {
		params string
		spoil  func(r *ship.Record)
		says   string
	}{
		{"", at(-8 * 24 * time.Hour), "too old"},
		{"", at(3 * time.Hour), "too new"},
		{"max-line=1m", func(r *ship.Record) { r.Line = bytes.Repeat([]byte("y"), 300<<10) }, "max entry size"},
	} {
		all := lines(since(), 1000, func(i int) string { return fmt.Sprint("line ", i) })
		bad := map[string]bool{}
		for n := range all {
			all[n].Offset += uint64(i) << 32
			if n%83 == 17 {
				tc.spoil(&all[n])
				bad[fmt.Sprintf("s1-%016x", all[n].Offset)] = true
			}
		}
		refused, errs := deliver(t, l.open(tc.params), all)
		for _, r := range refused {
			if !bad[r.ID] || !strings.Contains(strings.ToLower(r.Reason), tc.says) || !utf8.ValidString(r.Reason) {
				t.Errorf("refused %+v", r)
			}
		}
		if len(refused) != len(bad) || len(errs) > 0 {
			t.Errorf("%s: %d refused, want %d; %v", tc.says, len(refused), len(bad), errs)
		}
		arrived += len(all) - len(bad)
	}
	l.want(arrived)
}

// Loki as it comes takes 4 MB a second: it is busy then, and nothing is lost.
func TestLokiIsBusy(t *testing.T) {
	l := startLoki(t, false, documented(t)+"\n  ingestion_rate_mb: 1\n  ingestion_burst_size_mb: 2")
	all := lines(since(), 6000, func(i int) string { return fmt.Sprint(i, strings.Repeat(" busy", 200)) })
	refused, errs := deliver(t, l.open(""), all)
	if len(refused) > 0 {
		t.Errorf("refused %+v", refused)
	}
	if len(errs) == 0 {
		t.Error("it was never busy")
	}
	for _, err := range errs {
		if !errors.Is(err, ship.ErrBusy) {
			t.Errorf("%v is taken for a fault", err)
		}
	}
	l.want(len(all))
}

// A Loki that takes nothing, for it wants a tenant, or no metadata, holds records
// back rather than have them put aside, and says what to do.
func TestLokiTakesNothing(t *testing.T) {
	for _, tc := range []struct {
		tenants      bool
		limits, says string
	}{
		{true, documented(t), "no org id"},
		{false, strings.Replace(documented(t), "allow_structured_metadata: true", "allow_structured_metadata: false", 1), "limits_config.allow_structured_metadata"},
	} {
		s := startLoki(t, tc.tenants, tc.limits).open("")
		c := sinktest.Connect(t, s)
		if err := c.Send(t.Context(), c.Append(nil, s.Prepare(sinktest.Meta()), &ship.Record{Time: since(), Line: []byte("x")})); err != nil {
			t.Fatal(err)
		}
		acked, err := c.Wait(t.Context(), 0)
		if refused := c.(ship.Refuser).Refused(); acked != 0 || err == nil || !strings.Contains(err.Error(), tc.says) || len(refused) > 0 {
			t.Errorf("acked %d, refused %v, %v", acked, refused, err)
		}
	}
}
