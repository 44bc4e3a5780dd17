package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver"
	"github.com/dockline/dockline/logdriver/container"
)

// rig is both plugins, as they are, answering operators on sockets: the log driver
// in this process, the network driver as a process in a network namespace.
type rig struct {
	t                     *testing.T
	dir                   string
	logSocket, netSocket  string
	engineSocket, collect string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	dir, err := os.MkdirTemp("", "cli") // t.TempDir's are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir}
	r.collector()
	r.startLog()
	r.startNet()
	r.startEngine()
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// serve runs a server until the test ends.
func (r *rig) serve(socket string, serve func(context.Context, net.Listener) error) {
	l, err := pluginserver.Listen(socket)
	r.must(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// collector takes what comes.
func (r *rig) collector() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	r.collect = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c) }() // ends with the plugin
		}
	}()
	r.t.Cleanup(func() { _ = l.Close(); <-done })
}

const logConfig = `pools:
  default:
    collectors:
      - json+tcp://%s?name=c1
      - json+tcp://127.0.0.1:1?name=dead&weight=3
  audit: {private: true, collectors: "json+http://me:planted-pw1@127.0.0.1:1/?name=gone"}
  spare: {collectors: ["json+tcp://10.255.0.1:1?name=s1", "json+tcp://10.255.0.2:1?name=s2"]}
routes:
  - match: {name: pay}
    pools: [default, audit]
`

func (r *rig) startLog() {
	conf := filepath.Join(r.dir, "conf")
	r.must(os.Mkdir(conf, 0o700))
	r.must(os.WriteFile(filepath.Join(conf, "dockline-log.yaml"), fmt.Appendf(nil, logConfig, r.collect), 0o600))
	var recent pluginlog.Recent
	log := pluginlog.New(recent.Tee(io.Discard), recent.Tee(io.Discard), slog.LevelInfo)
	p, err := logdriver.Open(logdriver.Config{
		StateDir: filepath.Join(r.dir, "state"), ConfigMount: conf, ConfigMountedFrom: "/etc/dockline", HostName: "h1",
		SpoolMax: 1 << 30, LeaveTime: time.Minute, Version: "1.2.3",
	}, log)
	r.must(err)
	r.t.Cleanup(p.Close)
	log.Warn("what an operator may have said", "url", "relp://me:planted-pw2@10.0.0.1:1", "password", "planted-pw3")
	r.run(p, 1, "web", nil)
	r.run(p, 2, "pay", nil)
	r.run(p, 3, "quiet", map[string]string{"hash": "label:team", "pool": "default"})
	window := p.Admin(log)
	window.HandleProcess(recent.Lines)
	r.logSocket = filepath.Join(r.dir, "log.sock")
	r.serve(r.logSocket, window.Serve)
	defer func() {
		if r.t.Failed() {
			text, _ := json.Marshal(p.Status())
			r.t.Logf("%s\n%s", text, strings.Join(recent.Lines(), "\n"))
		}
	}()
	r.await("the healthy collector to have all, the others to be known as down", func() bool {
		down := 0
		s := p.Status()
		for _, c := range s.Collectors {
			if !c.Healthy {
				down++
			}
		}
		return down == 2 && len(s.Streams) == 3 && s.Streams[2].BacklogBytes == 0
	})
}

// run writes a few lines as the engine does for a container.
func (r *rig) run(p *logdriver.Plugin, n int, name string, opts map[string]string) {
	info := container.Info{
		Config: opts, ContainerID: strings.Repeat(fmt.Sprintf("%02x", n), 32), ContainerName: "/" + name,
		ContainerImageName: "shop", ContainerLabels: map[string]string{"team": "shop"}, ContainerEnv: []string{"SECRET=planted-pw4"},
	}
	file := filepath.Join(r.dir, name)
	r.must(unix.Mkfifo(file, 0o700))
	pipe, err := os.OpenFile(file, os.O_RDWR, 0)
	r.must(err)
	r.t.Cleanup(func() { _ = pipe.Close() })
	r.must(p.Start(context.Background(), file, &info))
	enc := stock.NewLogEntryEncoder(pipe)
	for i := range 3 {
		r.must(enc.Encode(&stock.LogEntry{Source: "stdout", TimeNano: time.Now().UnixNano(), Line: fmt.Appendf(nil, "planted line %d", i)}))
	}
}

func (r *rig) await(what string, is func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) { // no event tells of it
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// The ids of the networks, and of the endpoint that nobody moved.
var (
	lanID   = strings.Repeat("1a", 32)
	backID  = strings.Repeat("2b", 32)
	lostEnd = strings.Repeat("e7", 32)
)

func (r *rig) startNet() {
	bin := filepath.Join(r.dir, "dockline-net")
	build := exec.Command("go", "build", "-o", bin, "../cmd/dockline-net")
	if out, err := build.CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	state := filepath.Join(r.dir, "net")
	r.must(os.Mkdir(state, 0o700))
	socket := filepath.Join(state, "x.sock")
	plugin := exec.Command(bin, "-socket", socket, "-state", state)
	plugin.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	plugin.Stderr = os.Stderr
	r.must(plugin.Start())
	ended := make(chan error, 1)
	go func() { ended <- plugin.Wait() }()
	r.t.Cleanup(func() {
		_ = plugin.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			r.t.Errorf("dockline-net ended: %v", err)
		}
	})
	r.netSocket = filepath.Join(state, "admin.sock")
	r.await("dockline-net", func() bool { _, err := os.Stat(r.netSocket); return err == nil })
	for id, subnet := range map[string]string{lanID: "10.77.0", backID: "10.78.0"} {
		pool := r.call(socket, "IpamDriver.RequestPool", map[string]any{"AddressSpace": "dockline-local", "Pool": subnet + ".0/24"})["PoolID"]
		r.call(socket, "IpamDriver.RequestAddress", map[string]any{"PoolID": pool, "Address": subnet + ".1", "Options": map[string]string{"RequestAddressType": "com.docker.network.gateway"}})
		r.call(socket, "NetworkDriver.CreateNetwork", map[string]any{
			"NetworkID": id, "Options": map[string]any{"com.docker.network.generic": map[string]string{"mode": "bridge"}},
			"IPv4Data": []any{map[string]string{"AddressSpace": "dockline-local", "Pool": subnet + ".0/24", "Gateway": subnet + ".1/24"}},
		})
		if id == lanID {
			at := r.call(socket, "IpamDriver.RequestAddress", map[string]any{"PoolID": pool, "Address": subnet + ".9"})["Address"]
			r.call(socket, "NetworkDriver.CreateEndpoint", map[string]any{"NetworkID": id, "EndpointID": lostEnd, "Interface": map[string]any{"Address": at}})
			r.call(socket, "NetworkDriver.Join", map[string]any{"NetworkID": id, "EndpointID": lostEnd, "SandboxKey": "/nowhere"})
		}
	}
}

// call is what the engine would ask.
func (r *rig) call(socket, path string, body any) map[string]any {
	r.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	text, err := json.Marshal(body)
	r.must(err)
	res, err := client.Post("http://plugin/"+path, "", bytes.NewReader(text))
	r.must(err)
	defer res.Body.Close()
	var answer map[string]any
	r.must(json.NewDecoder(res.Body).Decode(&answer))
	if said := fmt.Sprint(answer["Err"], answer["Error"]); said != "<nil><nil>" && said != "<nil>" && said != "" {
		if s, _ := answer["Err"].(string); s != "" {
			r.t.Fatalf("%s: %s", path, s)
		}
		if s, _ := answer["Error"].(string); s != "" {
			r.t.Fatalf("%s: %s", path, s)
		}
	}
	return answer
}

// startEngine serves what an engine (28.5.2) said, cut down: how the command asks a
// real one is tested in test/e2e. Its plugins' sockets are where no engine is.
func (r *rig) startEngine() {
	mux := http.NewServeMux()
	for path, text := range map[string]string{
		"/version": `{"Version":"28.5.2","ApiVersion":"1.51","Os":"linux","Arch":"amd64","KernelVersion":"6.12.0"}`,
		"/plugins": `[{"Config":{"Interface":{"Socket":"dockline-log.sock","Types":["docker.logdriver/1.0"]}},"Enabled":false,"Id":"` + strings.Repeat("5", 64) + `",
			"Name":"lines:v2","PluginReference":"registry.example.com/lines:v2","Settings":{"Env":["COLLECTORS=relp://me:planted-pw5@10.0.0.1:1","LOG_LEVEL=info"]}}]`,
		"/info":               `{"Name":"h1","ServerVersion":"28.5.2","HttpProxy":"http://me:planted-pw6@proxy:3128"}`,
		"/networks":           `[]`,
		"/networks/" + lanID:  `{"Name":"lan","Containers":{"c":{"Name":"web","EndpointID":"` + lostEnd + `"}}}`,
		"/networks/" + backID: `{"Name":"back","Containers":{}}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	r.engineSocket = filepath.Join(r.dir, "engine.sock")
	r.serve(r.engineSocket, func(ctx context.Context, l net.Listener) error {
		s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}
