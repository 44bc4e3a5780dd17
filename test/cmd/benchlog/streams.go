package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
)

// streamLines is how many lines all streams together carry.
const streamLines = 1_000_000

// pluginRun is where a plugin sees its FIFOs.
const pluginRun = "/run/docker/logging/"

// streamSample is what a number of streams took.
type streamSample struct {
	streams        int
	done, cpu, rss float64
	lost           int64
}

// measureStreams plays the engine to the real plugin: it makes the FIFOs, calls
// StartLogging on the plugin's socket and writes a record at a time, for the
// engine itself takes minutes to start a thousand containers.
func (b *bench) measureStreams(ctx context.Context) error {
	for _, n := range []int{1, 100, 1000} {
		s, err := b.measureStreamsOf(ctx, n)
		if err != nil {
			return fmt.Errorf("%d streams: %w", n, err)
		}
		b.many = append(b.many, s)
		program.Print("%4d streams, %d lines in all: delivered %.2f s, CPU of plugin %.2f s, its memory %.0f MiB, lost %d", n, streamLines, s.done, s.cpu, s.rss, s.lost)
	}
	return nil
}

func (b *bench) measureStreamsOf(ctx context.Context, n int) (s streamSample, err error) {
	old, err := b.engine.KillPlugin(ctx, ours) // for a new one that has used no memory yet
	if err != nil {
		return s, err
	}
	p, err := b.engine.AwaitPlugin(ctx, ours, old)
	if err != nil {
		return s, err
	}
	d := b.driver(p.PID)
	if err := d.await(ctx); err != nil {
		return s, err
	}
	sinks := b.sinks["json+tcp"]
	got := newTally(streamLines, sinks)
	u := watch(ctx, p.PID, b.engine.PID())
	began := time.Now()
	err = d.run(ctx, n, streamLines/n, map[string]string{"collectors": b.urls("json+tcp")})
	if err != nil {
		return s, errors.Join(err, u.discard())
	}
	ended := got.wait(ctx, sinks)
	s = streamSample{streams: n, done: ended.Sub(began).Seconds(), lost: got.missing()}
	s.cpu, _, s.rss = u.end()
	return s, d.stop(ctx)
}

// driver calls the plugin as the engine does.
type driver struct {
	http  http.Client
	mount string // the folder of the FIFOs as seen from here
	fifos []*os.File
}

// driver reaches the plugin's socket through its process, for engines differ in
// where they keep it.
func (b *bench) driver(pid int) *driver {
	id := b.plugins[ours]
	socket := fmt.Sprintf("/proc/%d/root/run/docker/plugins/%s.sock", pid, ours)
	return &driver{
		mount: filepath.Join(b.engine.DataRoot, "plugins", id, "propagated-mount"),
		http: http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}},
	}
}

// await returns when the plugin answers.
func (d *driver) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("the plugin does not answer in time"))
	defer cancel()
	return proc.Await(ctx, func(ctx context.Context) error { return d.call(ctx, "Capabilities", struct{}{}) })
}

func (d *driver) call(ctx context.Context, method string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/LogDriver."+method, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	res, err := d.http.Do(req)
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	defer res.Body.Close()
	var answer struct{ Err string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	if answer.Err != "" {
		return fmt.Errorf("call %s: %s", method, answer.Err)
	}
	return nil
}

// run starts n streams and writes so many lines to each, a record at a time,
// from as many goroutines as the engine would have running at once.
func (d *driver) run(ctx context.Context, n, each int, opts map[string]string) error {
	for i := range n {
		if err := d.start(ctx, n, i, opts); err != nil {
			return err
		}
	}
	frame, err := new(record.Encoder).Append(nil, false, time.Now().UnixNano(), []byte("^"+strings.Repeat("x", 119)))
	if err != nil {
		return err
	}
	const writers = 4
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { errs[w] = d.write(frame, w, writers, each) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// write writes to every step-th stream from first on, in turn.
func (d *driver) write(frame []byte, first, step, each int) error {
	for range each {
		for i := first; i < len(d.fifos); i += step {
			if _, err := d.fifos[i].Write(frame); err != nil {
				return fmt.Errorf("write a record: %w", err)
			}
		}
	}
	return nil
}

func (d *driver) start(ctx context.Context, n, i int, opts map[string]string) error {
	name := fmt.Sprintf("bench-%d-%d", n, i)
	if err := unix.Mkfifo(filepath.Join(d.mount, name), 0o700); err != nil {
		return fmt.Errorf("make a FIFO: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(d.mount, name), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open a FIFO: %w", err)
	}
	d.fifos = append(d.fifos, f)
	return d.call(ctx, "StartLogging", map[string]any{"File": pluginRun + name, "Info": map[string]any{
		"Config": opts, "ContainerID": fmt.Sprintf("%060x%04x", n, i), "ContainerName": "/" + name,
		"ContainerImageName": "bench", "ContainerEntrypoint": "bench", "ContainerCreated": time.Now().UTC().Format(time.RFC3339Nano),
	}})
}

// stop ends all streams.
func (d *driver) stop(ctx context.Context) error {
	var errs []error
	for _, f := range d.fifos {
		errs = append(errs, d.call(ctx, "StopLogging", map[string]any{"File": pluginRun + filepath.Base(f.Name())}), f.Close(), os.Remove(f.Name()))
	}
	return errors.Join(errs...)
}
