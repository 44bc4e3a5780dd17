package logdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/stream"
)

const (
	sinkBuffer   = 64 << 10
	maxPipe      = 1 << 20 // as much as a pipe holds at most (pipe-max-size)
	lastReads    = 64      // of a container that goes on writing
	sayDropEvery = time.Minute
)

// Refusal is the driver of a plugin that must not touch its spool: it says why
// to whoever starts a container. Containers that run already must not wait for
// a reader: what they write is dropped, counted, and said. Package rescue, which
// has a place to put it, lets containers start.
type Refusal struct {
	why error
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	sinks   map[string]*fifoSink
	dropped int64     // bytes
	said    time.Time // when that was last logged
}

// fifoSink reads one FIFO for nothing.
type fifoSink struct {
	pipe *os.File
	done chan struct{} // closed when nobody reads any more
}

// Refuse begins to read the FIFOs that there are: which of them are containers'
// is in the spool, and so not known.
func Refuse(cfg Config, why error, log *slog.Logger) *Refusal {
	r := &Refusal{why: why, log: log, sinks: map[string]*fifoSink{}}
	log.Error("dockline-log takes no containers; what those write that run already is dropped", "err", why)
	files, err := stream.FIFOs(filepath.Dir(cfg.StateDir))
	if err != nil {
		log.Error("containers that run already may wait for ever: their FIFOs are not found", "err", err)
	}
	for _, file := range files {
		if err := r.begin(file); err != nil {
			log.Error("a container cannot be read", "fifo", file, "err", err)
		}
	}
	return r
}

// begin opens the FIFO for writing too: it has no end then, also while the engine
// is away.
func (r *Refusal) begin(file string) error {
	pipe, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open a FIFO: %w", err)
	}
	s := &fifoSink{pipe: pipe, done: make(chan struct{})}
	r.sinks[file] = s
	go func() {
		defer close(s.done)
		buf := make([]byte, sinkBuffer)
		for {
			n, err := pipe.Read(buf)
			r.count(int64(n))
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil {
				r.log.Error("a container cannot be read any more", "fifo", file, "err", err)
				return
			}
		}
	}()
	return nil
}

func (r *Refusal) count(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped += n
	if n > 0 && time.Since(r.said) >= sayDropEvery {
		r.said = time.Now()
		r.log.Error("what containers write is dropped: the spool is out of reach", "bytes_so_far", r.dropped)
	}
}

// Dropped returns how many bytes were dropped.
func (r *Refusal) Dropped() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Register adds the engine's calls to the server.
func (r *Refusal) Register(s *pluginserver.Server) { engine.Register(s, r) }

// Admin returns the server of what is left to see.
func (r *Refusal) Admin(log *slog.Logger) *admin.Server {
	s := admin.New(log, r)
	refuse := func() error { return r.why }
	s.Ready("spool is within reach", refuse)
	s.Refuse(refuse)
	return s
}

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (r *Refusal) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *Refusal) Collect(ch chan<- prometheus.Metric) {
	besides(ch, r.Dropped(), "refused")
	modes(ch, map[string]bool{"refusing": true})
}

// Start implements engine.Driver.
func (r *Refusal) Start(context.Context, string, *container.Info) error { return r.why }

// Stop implements engine.Driver.
func (r *Refusal) Stop(_ context.Context, file string) error {
	r.mu.Lock()
	s := r.sinks[file]
	delete(r.sinks, file)
	r.mu.Unlock()
	if s != nil {
		r.end(s)
	}
	return nil
}

// end empties the FIFO, closes it and waits for its reader. The engine writes
// frames as a whole: in an empty pipe the next one begins.
func (r *Refusal) end(s *fifoSink) {
	if raw, err := s.pipe.SyscallConn(); err == nil {
		buf := make([]byte, maxPipe)
		_ = raw.Control(func(fd uintptr) {
			for range lastReads {
				n, err := unix.Read(int(fd), buf) // the descriptor does not block
				if err != nil || n == 0 {
					return
				}
				r.count(int64(n))
			}
		})
	}
	_ = s.pipe.Close()
	<-s.done
}

// ReadLogs implements engine.Driver.
func (r *Refusal) ReadLogs(context.Context, *container.Info, engine.ReadConfig, io.Writer) error {
	return r.why
}

// Close stops reading. What the FIFOs bring from now on waits in them.
func (r *Refusal) Close() {
	r.mu.Lock()
	all := r.sinks
	r.sinks = nil
	r.mu.Unlock()
	for _, s := range all {
		r.end(s)
	}
	r.log.Info("dockline-log stops", "dropped_bytes", r.Dropped())
}
