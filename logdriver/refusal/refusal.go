// Package refusal is the log driver of a plugin that must not touch its spool: it
// says why to whoever starts a container. Containers that run already must not wait
// for a reader: what they write is dropped, counted, and said. Package rescue, which
// has a place to put it, lets containers start.
package refusal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

// Driver implements engine.Driver.
type Driver struct {
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

// Open begins to read the FIFOs that are below a folder: which of them are
// containers' is in the spool, and so not known. why is what is wrong with that.
func Open(fifos string, why error, log *slog.Logger) *Driver {
	d := &Driver{why: why, log: log, sinks: map[string]*fifoSink{}}
	log.Error("dockline-log takes no containers; what those write that run already is dropped", "err", why)
	files, err := stream.FIFOs(fifos)
	if err != nil {
		log.Error("containers that run already may wait for ever: their FIFOs are not found", "err", err)
	}
	for _, file := range files {
		if err := d.begin(file); err != nil {
			log.Error("a container cannot be read", "fifo", file, "err", err)
		}
	}
	return d
}

// begin opens the FIFO for writing too: it has no end then, also while the engine
// is away.
func (d *Driver) begin(file string) error {
	pipe, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open a FIFO: %w", err)
	}
	s := &fifoSink{pipe: pipe, done: make(chan struct{})}
	d.sinks[file] = s
	go func() {
		defer close(s.done)
		buf := make([]byte, sinkBuffer)
		for {
			n, err := pipe.Read(buf)
			d.count(int64(n))
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil {
				d.log.Error("a container cannot be read any more", "fifo", file, "err", err)
				return
			}
		}
	}()
	return nil
}

func (d *Driver) count(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropped += n
	if n > 0 && time.Since(d.said) >= sayDropEvery {
		d.said = time.Now()
		d.log.Error("what containers write is dropped: the spool is out of reach", "bytes_so_far", d.dropped)
	}
}

// Dropped returns how many bytes were dropped.
func (d *Driver) Dropped() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dropped
}

// Why is what is wrong with the spool.
func (d *Driver) Why() error { return d.why }

// Start implements engine.Driver.
func (d *Driver) Start(context.Context, string, *container.Info) error { return d.why }

// Stop implements engine.Driver.
func (d *Driver) Stop(_ context.Context, file string) error {
	d.mu.Lock()
	s := d.sinks[file]
	delete(d.sinks, file)
	d.mu.Unlock()
	if s != nil {
		d.end(s)
	}
	return nil
}

// end empties the FIFO, closes it and waits for its reader. The engine writes
// frames as a whole: in an empty pipe the next one begins.
func (d *Driver) end(s *fifoSink) {
	if raw, err := s.pipe.SyscallConn(); err == nil {
		buf := make([]byte, maxPipe)
		_ = raw.Control(func(fd uintptr) {
			for range lastReads {
				n, err := unix.Read(int(fd), buf) // the descriptor does not block
				if err != nil || n == 0 {
					return
				}
				d.count(int64(n))
			}
		})
	}
	_ = s.pipe.Close()
	<-s.done
}

// ReadLogs implements engine.Driver.
func (d *Driver) ReadLogs(context.Context, *container.Info, engine.ReadConfig, io.Writer) error {
	return d.why
}

// Close stops reading. What the FIFOs bring from now on waits in them.
func (d *Driver) Close() {
	d.mu.Lock()
	all := d.sinks
	d.sinks = nil
	d.mu.Unlock()
	for _, s := range all {
		d.end(s)
	}
	d.log.Info("dockline-log stops", "dropped_bytes", d.Dropped())
}
