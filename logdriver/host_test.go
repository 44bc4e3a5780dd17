package logdriver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/engine"
)

// inEtc stands before the paths of files that the plugin is to see below the host's
// /etc: all of them are, for it.
const inEtc = "/etc"

// host is a plugin and, on the other side of its socket, the part of an engine
// that the log driver protocol needs.
type host struct {
	t      testing.TB
	dir    string
	cfg    Config
	plugin *Plugin
	server *pluginserver.Server
	log    *slog.Logger // nil: nobody looks at it
}

func newHost(t testing.TB, collectors string) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{t: t, dir: dir, cfg: Config{StateDir: filepath.Join(dir, "state"), Collectors: collectors, HostName: "h1", Etc: "/", SpoolMax: 1 << 30}}
	h.start()
	t.Cleanup(func() { h.plugin.Close() })
	return h
}

func (h *host) start() {
	h.t.Helper()
	log := h.log
	if log == nil {
		log = quiet
	}
	p, err := Open(h.cfg, log)
	if err != nil {
		h.t.Fatal(err)
	}
	h.plugin, h.server = p, pluginserver.New(quiet)
	p.Register(h.server)
}

// restart ends the plugin's process as far as that can be done inside of one.
func (h *host) restart() {
	h.plugin.Close()
	h.start()
}

// call makes one plugin call and returns its error text, if any.
func (h *host) call(path string, body any) string {
	h.t.Helper()
	b, ok := body.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(body); err != nil {
			h.t.Fatal(err)
		}
	}
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(b)))
	var res struct{ Err string }
	if err := json.Unmarshal(w.Body.Bytes(), &res); err != nil {
		h.t.Fatalf("%s: reply %q: %v", path, w.Body, err)
	}
	if w.Code != http.StatusOK && res.Err == "" {
		h.t.Fatalf("%s: status %d without an error", path, w.Code)
	}
	return res.Err
}

func (h *host) logs(info container.Info, c engine.ReadConfig) []string {
	h.t.Helper()
	b, err := json.Marshal(map[string]any{"Info": info, "Config": c})
	if err != nil {
		h.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/LogDriver.ReadLogs", bytes.NewReader(b)))
	if w.Code != http.StatusOK {
		h.t.Fatalf("ReadLogs: %d %s", w.Code, w.Body)
	}
	return entries(h.t, w.Body)
}

func entries(t testing.TB, r io.Reader) []string {
	t.Helper()
	var out []string
	dec := stock.NewLogEntryDecoder(r)
	for {
		var e stock.LogEntry
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Source+" "+string(e.Line))
	}
}

// run is one run of a container: the engine's end of its FIFO.
type run struct {
	h    *host
	info container.Info
	file string
	pipe *os.File
	enc  stock.LogEntryEncoder
}

func (h *host) run(n int, config map[string]string) *run {
	h.t.Helper()
	r := &run{h: h, info: info(n, config), file: filepath.Join(h.dir, fmt.Sprintf("fifo-%d-%d", n, rand.Uint32()))}
	if err := unix.Mkfifo(r.file, 0o700); err != nil {
		h.t.Fatal(err)
	}
	var err error
	if r.pipe, err = os.OpenFile(r.file, os.O_RDWR, 0); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = r.pipe.Close() })
	r.enc = stock.NewLogEntryEncoder(r.pipe)
	if msg := h.call("/LogDriver.StartLogging", map[string]any{"File": r.file, "Info": r.info}); msg != "" {
		h.t.Fatal(msg)
	}
	return r
}

func info(n int, config map[string]string) container.Info {
	return container.Info{
		Config: config, ContainerID: fmt.Sprintf("%064x", n), ContainerName: fmt.Sprintf("/web-%d", n),
		ContainerImageName: "shop/web:3", ContainerImageID: "sha256:abc",
	}
}

func (r *run) write(lines ...string) {
	r.h.t.Helper()
	for _, l := range lines {
		if err := r.enc.Encode(&stock.LogEntry{Source: "stdout", TimeNano: time.Now().UnixNano(), Line: []byte(l)}); err != nil {
			r.h.t.Fatal(err)
		}
	}
}

func (r *run) chunk(source, id, text string, last bool) {
	r.h.t.Helper()
	e := &stock.LogEntry{Source: source, TimeNano: time.Now().UnixNano(), Line: []byte(text), Partial: true,
		PartialLogMetadata: &stock.PartialLogEntryMetadata{Id: id, Ordinal: 1, Last: last}}
	if err := r.enc.Encode(e); err != nil {
		r.h.t.Fatal(err)
	}
}

func (r *run) stop() {
	r.h.t.Helper()
	if msg := r.h.call("/LogDriver.StopLogging", map[string]any{"File": r.file}); msg != "" {
		r.h.t.Fatal(msg)
	}
}

// collector is a JSON lines server that keeps the messages.
func collector(t *testing.T) (address string, lines <-chan string) {
	t.Helper()
	return collectorAt(t, "127.0.0.1:0")
}

func collectorAt(t *testing.T, address string) (_ string, lines <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan string, 10000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := bufio.NewScanner(c)
			s.Buffer(nil, 2<<20)
			for s.Scan() {
				var m struct{ Message string }
				if json.Unmarshal(s.Bytes(), &m) == nil {
					ch <- m.Message
				}
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), ch
}

func expect(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-lines:
			if got != w {
				t.Fatalf("got %q, want %q", got, w)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q did not arrive", w)
		}
	}
}
