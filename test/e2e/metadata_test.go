package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/test/harness"
)

// What is known of a container, and what its log-opts ask for, is with its records
// as they come to a collector; secrets are not.
func TestMetadataArrives(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	opts := []string{
		"--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web", "--label", "com.docker.compose.container-number=2",
		"--label", "com.example.team=payments", "-e", "RELEASE=7", "-e", "MARATHON_APP_ID=/shop/web", "-e", "PASSWORD=do-not-tell",
		"--log-opt", "tag={{.ImageName}}/{{.Name}}/{{.DaemonName}}", "--log-opt", "labels=com.example.team", "--log-opt", "env-regex=^REL", "--log-opt", "fields.dc=fra1",
	}
	got := b.oneMessage("json+tcp", "metadata-json", opts, "line of json")
	var object struct {
		Tag, Engine, Host, Command string
		Version                    string `json:"dockline_version"`
		Project                    string `json:"compose_project"`
		Service                    string `json:"compose_service"`
		Number                     string `json:"compose_number"`
		App                        string `json:"marathon_app"`
		Attrs                      map[string]string
	}
	if err := json.Unmarshal(got, &object); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if object.Version == "" || object.Version == "devel" || object.Host == "" || object.Command == "" {
		t.Errorf("something is not said: %+v", object)
	}
	said := []string{object.Tag, object.Engine, object.Project, object.Service, object.Number, object.App}
	if d := cmp.Diff([]string{harness.Image + "/metadata-json/docker", "docker", "shop", "web", "2", "/shop/web"}, said); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"com.example.team": "payments", "RELEASE": "7", "dc": "fra1"}, object.Attrs); d != "" {
		t.Error(d)
	}
	message := string(b.oneMessage("syslog+tcp", "metadata-syslog", opts, "line of syslog"))
	for _, want := range []string{`compose_service="web"`, `marathon_app="/shop/web"`, `dc="fra1"`, `RELEASE="7"`, `com.example.team="payments"`, "/metadata-syslog/docker "} {
		if !strings.Contains(message, want) {
			t.Errorf("%s is not in %s", want, message)
		}
	}
	for _, m := range []string{string(got), message} {
		if strings.Contains(m, "do-not-tell") {
			t.Errorf("a secret was sent: %s", m)
		}
	}

	b.names = append(b.names, "metadata-bad")
	_, err := b.engine.Docker.Start(b.ctx, "metadata-bad", "--log-driver", driver, "--log-opt", "field.dc=x", harness.Image, "true")
	if err == nil || !strings.Contains(fmt.Sprint(err), `unknown log-opt "field.dc": did you mean "fields.NAME"?`) {
		t.Errorf("a misspelt option: %v", err)
	}
}

// oneMessage runs a container that writes one line, and returns what a collector
// is sent for it, as bytes.
func (b *bench) oneMessage(scheme, name string, opts []string, line string) []byte {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	args := append([]string{"--log-driver", driver, "--log-opt", "collectors=" + scheme + "://" + l.Addr().String()}, opts...)
	b.names = append(b.names, name)
	if _, err := b.engine.Docker.Start(b.ctx, name, append(args, harness.Image, "echo", line)...); err != nil {
		b.Fatal(err)
	}
	until, _ := b.ctx.Deadline()
	_ = l.(*net.TCPListener).SetDeadline(until)
	var got []byte
	for { // a connection may be one that only finds out whether we are there
		conn, err := l.Accept()
		if err != nil {
			b.Fatalf("nothing came of %s: %v", name, err)
		}
		got = readUntil(conn, line, until)
		came := bytes.Contains(got, []byte(line))
		if came { // whoever leaves before the plugin knows that it came is sent it again
			adminGet(b.ctx, b.T, b.engine, "/drain")
		}
		_ = conn.Close()
		if came {
			return got
		}
	}
}

func readUntil(conn net.Conn, line string, until time.Time) []byte {
	_ = conn.SetDeadline(until)
	var got []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if i := bytes.Index(got, []byte(line)); i >= 0 && (bytes.HasSuffix(got, []byte(line)) || bytes.HasSuffix(got, []byte("\n"))) || err != nil {
			return got
		}
	}
}
