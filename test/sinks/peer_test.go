// Package sinks tests sinks against real collectors, with the configurations
// that the documentation gives.
package sinks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/sink"
)

// message is a record as a syslog server has understood it.
type message struct {
	Pri, Time, Host, App, Procid, SD, Msg string
}

// peer is a collector of its own process, on loopback.
type peer struct {
	dir   string
	ports map[int]int // those of the documentation, and ours
	host  sink.Host   // with certificates
	skip  string      // lines of no interest
}

// start runs a collector until the test ends, with a configuration from
// docs/sinks; args are given the file that it is in.
func start(t *testing.T, page, language string, args func(dir, conf string) *exec.Cmd) *peer {
	t.Helper()
	p := &peer{dir: t.TempDir(), ports: map[int]int{}, host: sink.Host{Resolver: net.DefaultResolver, Config: t.TempDir()}}
	issue(t, p.dir, p.host.Config)
	text := documented(t, page, language)
	text = strings.NewReplacer("/etc/dockline", p.dir, "/var/log/containers", filepath.Join(p.dir, "out")).Replace(text)
	text = regexp.MustCompile(`\bport(="|\()(\d+)`).ReplaceAllStringFunc(text, func(s string) string {
		at := strings.LastIndexAny(s, `"(`) + 1
		port, _ := strconv.Atoi(s[at:])
		p.ports[port] = freePort(t)
		address := map[byte]string{'"': `address="127.0.0.1" `, '(': `ip("127.0.0.1") `}[s[at-1]]
		return address + s[:at] + strconv.Itoa(p.ports[port])
	})
	conf := filepath.Join(p.dir, "conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := args(p.dir, conf)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run scripts/setup.sh", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", cmd.Path, said.String())
		}
	})
	return p
}

// documented returns the first block of a language in a page.
func documented(t *testing.T, page, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/sinks/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "\n```"+language+"\n")
	block, _, ended := strings.Cut(block, "\n```\n")
	if !found || !ended {
		t.Fatalf("%s has no block of %s", page, language)
	}
	return block + "\n"
}

// issue makes certificates for a collector and for us.
func issue(t *testing.T, server, client string) {
	t.Helper()
	ca, err := testcert.New("test")
	if err != nil {
		t.Fatal(err)
	}
	for dir, name := range map[string]string{server: "server", client: "client"} {
		pair, err := ca.Issue(time.Hour*24, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.Write(dir, name); err != nil {
			t.Fatal(err)
		}
		if err := testcert.WriteFile(dir, "ca.pem", ca.PEM); err != nil {
			t.Fatal(err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	addr, err := netip.ParseAddrPort(testport.Of(t))
	if err != nil {
		t.Fatal(err)
	}
	return int(addr.Port())
}

// eventually repeats try until it succeeds: the daemons announce nothing.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(err)
		}
	}
}

// messages waits until the collector has written n.
func (p *peer) messages(t *testing.T, n int) []message {
	t.Helper()
	var all []message
	eventually(t, func() error {
		out, err := os.ReadFile(filepath.Join(p.dir, "out"))
		if err != nil {
			return err
		}
		all = nil
		for line := range bytes.Lines(out) {
			var m message
			if err := json.Unmarshal(line, &m); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			if p.skip == "" || m.Msg != p.skip {
				all = append(all, m)
			}
		}
		if len(all) != n {
			return fmt.Errorf("%d messages, want %d", len(all), n)
		}
		return nil
	})
	return all
}
