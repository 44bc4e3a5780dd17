package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/test/harness/program"
	"github.com/dockline/dockline/test/harness/wire"
)

const (
	binary   = "build/plugins/dockline-net/rootfs/dockline-net"
	callTime = 30 * time.Second // an engine tries a dead plugin for so long
	tryEvery = 100 * time.Millisecond
	upTime   = time.Minute // for a plugin to answer after its start
)

// engine plays the engine of one host, with its plugin beside it.
type engine struct {
	*wire.Station
	w      *world
	box    *sandbox
	socket string
	state  string
	http   *http.Client

	etcdless atomic.Int64 // faults because of which all of etcd is away for it
	started  atomic.Int64 // when the plugin was, on the ledger's clock

	mu  sync.Mutex // guards cmd
	cmd *exec.Cmd

	// gate is held for reading by who starts or stops a container, and for
	// writing while the engine starts again, which does nothing else then.
	gate    sync.RWMutex
	boxes   []*box
	pool    string // the id of the network's
	network string
}

func newEngine(w *world, s *wire.Station, run string) *engine {
	e := &engine{Station: s, w: w, socket: filepath.Join(run, "net.sock"), state: filepath.Join(w.lab.Dir, s.Name), network: "net" + s.Name}
	e.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: w.containers, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.socket)
	}}}
	for i := range w.containers {
		e.boxes = append(e.boxes, &box{name: fmt.Sprintf("%s-box%d", s.Name, i), e: e, number: i})
	}
	return e
}

// startPlugin starts the plugin's process in the host's network.
func (e *engine) startPlugin(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	log, err := os.OpenFile(e.state+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start the plugin: %w", err)
	}
	defer log.Close()
	cmd := e.Command(context.WithoutCancel(ctx), e.w.plugin, "-socket", e.socket, "-state", e.state)
	cmd.Env = append(os.Environ(), e.w.settings(e)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is not for it
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the plugin: %w", err)
	}
	e.cmd = cmd
	e.started.Store(int64(e.w.ledger.now()))
	return nil
}

// killPlugin kills the plugin's process, and waits until it is gone.
func (e *engine) killPlugin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cmd == nil {
		return nil
	}
	err := e.cmd.Process.Kill()
	_ = e.cmd.Wait() // says that it was killed
	e.cmd = nil
	if err != nil {
		return fmt.Errorf("kill the plugin of %s: %w", e.Name, err)
	}
	return nil
}

// sweep asks the plugin to look at once at what is left over.
func (e *engine) sweep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cmd != nil {
		_ = e.cmd.Process.Signal(syscall.SIGHUP)
	}
}

// errStuck says that a plugin did not answer in statusTime.
var errStuck = errors.New("the plugin is stuck")

const statusTime = 30 * time.Second

// status asks the plugin for all that it has.
func (e *engine) status(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, statusTime, errStuck)
	defer cancel()
	var raw bytes.Buffer
	err := admin.Get(ctx, filepath.Join(filepath.Dir(e.socket), "admin.sock"), "/status", &raw)
	if err != nil && errors.Is(context.Cause(ctx), errStuck) {
		e.dump()
		return nil, fmt.Errorf("ask the plugin of %s: %w", e.Name, errStuck)
	} else if err != nil {
		return nil, fmt.Errorf("ask the plugin of %s: %w", e.Name, err)
	}
	return raw.Bytes(), nil
}

// dump ends a plugin that does not answer and has it say in its log what it waits for.
func (e *engine) dump() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cmd != nil {
		_ = e.cmd.Process.Signal(syscall.SIGQUIT)
		_ = e.cmd.Wait()
		e.cmd = nil
	}
}

// refusal is an error that the plugin answered with.
type refusal struct{ path, text string }

func (r *refusal) Error() string { return r.path + ": " + r.text }

// tries is what became of one call: when the try that was answered began, and
// when those did that may have had an effect without an answer.
type tries struct {
	begin time.Duration
	cut   []time.Duration
}

// call makes a call as the engine does: again, where the plugin is not there or
// dies meanwhile, then without the body.
func (e *engine) call(ctx context.Context, path string, body, reply any) (t tries, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTime, errors.New("the plugin does not answer"))
	defer cancel()
	raw, err := json.Marshal(body)
	if err != nil {
		return t, fmt.Errorf("%s: %w", path, err)
	}
	for {
		t.begin = e.w.ledger.now()
		err := e.try(ctx, path, raw, reply)
		var refused *refusal
		if err == nil || errors.As(err, &refused) {
			return t, err
		}
		if op := new(net.OpError); !errors.As(err, &op) || op.Op != "dial" {
			t.cut = append(t.cut, t.begin)
			raw = nil // the engine has sent it, and cannot again (pkg/plugins/client.go, callWithRetry)
		}
		if !program.Pause(ctx, tryEvery) { // the plugin is being started again
			return t, fmt.Errorf("%s: %w: %w", path, context.Cause(ctx), err)
		}
	}
}

func (e *engine) try(ctx context.Context, path string, body []byte, reply any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	req.GetBody = nil // no tries of the library's own
	res, err := e.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var failure struct{ Err, Error string }
	if err := json.Unmarshal(raw, &failure); err != nil {
		return &refusal{path, fmt.Sprintf("answered %d %q", res.StatusCode, raw)}
	}
	if text := failure.Err + failure.Error; text != "" || res.StatusCode != http.StatusOK {
		if failure.Err != "" {
			text = failure.Err // both are there
		}
		return &refusal{path, text}
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(raw, reply); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

type object = map[string]any

// without says that all of etcd is away for the host, until it is not.
func (e *engine) without() (over func()) {
	e.etcdless.Add(1)
	return func() { e.etcdless.Add(-1) }
}

func (e *engine) away() bool { return e.etcdless.Load() > 0 }

// when says what was broken for the host as a call was made that began then, with
// etcd away or not.
func (e *engine) when(begin time.Duration, away bool) string {
	switch {
	case begin-time.Duration(e.started.Load()) < 5*time.Second:
		return " within 5 s of the plugin's start"
	case away || e.away():
		return " while etcd was away for the host"
	}
	return ""
}

// register is what an engine does first when it starts, and when it has loaded
// the plugin.
func (e *engine) register(ctx context.Context) error {
	for _, path := range []string{"NetworkDriver.GetCapabilities", "IpamDriver.GetCapabilities", "IpamDriver.GetDefaultAddressSpaces"} {
		if _, err := e.call(ctx, path, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// requestPool asks for the network's pool and gateway, when it is made and again
// at each start of the engine.
func (e *engine) requestPool(ctx context.Context) error {
	var pool struct{ PoolID string }
	if _, err := e.call(ctx, "IpamDriver.RequestPool", object{
		"AddressSpace": "dockline-local", "Pool": subnet.String(), "SubPool": e.w.rangeOf(e).String(), "Options": e.w.ipamOptions(e), "V6": false,
	}, &pool); err != nil {
		return err
	}
	if e.pool != "" && e.pool != pool.PoolID {
		return fmt.Errorf("the pool was %q and is %q", e.pool, pool.PoolID)
	}
	e.pool = pool.PoolID
	_, err := e.call(ctx, "IpamDriver.RequestAddress", object{
		"PoolID": e.pool, "Address": gateway.String(), "Options": object{"RequestAddressType": "com.docker.network.gateway"},
	}, nil)
	return err
}

// createNetwork makes the host's network.
func (e *engine) createNetwork(ctx context.Context) error {
	if err := errors.Join(e.register(ctx), e.requestPool(ctx)); err != nil {
		return err
	}
	_, err := e.call(ctx, "NetworkDriver.CreateNetwork", object{
		"NetworkID": e.network,
		"Options":   object{"com.docker.network.generic": object{"parent": "eth0", "probe": "false"}, "com.docker.network.enable_ipv4": true},
		"IPv4Data":  []object{{"AddressSpace": "dockline-local", "Pool": subnet.String(), "Gateway": gatewayNet}},
		"IPv6Data":  []object{},
	}, nil)
	return err
}

// removeNetwork removes it, in the engine's order.
func (e *engine) removeNetwork(ctx context.Context) error {
	_, err1 := e.call(ctx, "IpamDriver.ReleaseAddress", object{"PoolID": e.pool, "Address": gateway.String()}, nil)
	_, err2 := e.call(ctx, "IpamDriver.ReleasePool", object{"PoolID": e.pool}, nil)
	_, err3 := e.call(ctx, "NetworkDriver.DeleteNetwork", object{"NetworkID": e.network}, nil)
	return errors.Join(err1, err2, err3)
}

// restart starts the engine again: it says what it knows, and nothing else is
// done meanwhile.
func (e *engine) restart(ctx context.Context) error {
	e.gate.Lock()
	defer e.gate.Unlock()
	if err := errors.Join(e.register(ctx), e.requestPool(ctx)); err != nil {
		return fmt.Errorf("start the engine of %s again: %w", e.Name, err)
	}
	for _, b := range e.boxes {
		if err := b.replay(ctx); err != nil {
			return err
		}
	}
	return nil
}
