// Package rescue is the log driver after a downgrade: of a spool that a newer
// dockline-log wrote it can neither read nor write anything. Containers start,
// write and stop all the same, and what they write is put aside until a plugin
// runs that knows the spool. It stands in the place of everything behind the
// FIFOs.
package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/spool"
	"github.com/dockline/dockline/logdriver/stream"
)

const (
	moveBytes = 1 << 20 // bounds one splice
	failWait  = 100 * time.Millisecond
)

// Driver implements engine.Driver.
type Driver struct {
	log    *slog.Logger
	why    error
	aside  *spool.Rescue
	mu     sync.Mutex // guards what follows
	movers map[string]*mover
	closed bool
}

// mover moves the bytes of one FIFO.
type mover struct {
	driver *Driver
	to     *spool.Rescued
	pipe   *os.File
	raw    syscall.RawConn
	done   chan struct{} // closed when run has returned
}

// Open begins to move what is in the FIFOs below a folder: which of them are
// containers' of before is in the spool, and so not known. why is what is wrong
// with the spool.
func Open(aside *spool.Rescue, fifos string, why error, log *slog.Logger) (*Driver, error) {
	d := &Driver{log: log, why: why, aside: aside, movers: map[string]*mover{}}
	log.Error("dockline-log was downgraded and cannot read the spool. Containers go on, and what they write is put aside, but nothing is shipped, "+
		"and docker logs shows nothing: upgrade the plugin again, or disable it and delete the spool", "err", why)
	files, err := stream.FIFOs(fifos)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := d.begin(file, nil); err != nil {
			log.Error("a container cannot be read", "fifo", file, "err", err)
		}
	}
	return d, nil
}

func (d *Driver) begin(file string, info json.RawMessage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errors.New("the plugin is stopping")
	}
	to, err := d.aside.Take(file, info)
	if err != nil || d.movers[file] != nil {
		return err
	}
	m := &mover{driver: d, to: to, done: make(chan struct{})}
	if m.pipe, err = stream.OpenFIFO(file); err != nil {
		return err
	}
	if m.raw, err = m.pipe.SyscallConn(); err != nil {
		return errors.Join(fmt.Errorf("reach the FIFO's descriptor: %w", err), m.pipe.Close())
	}
	d.movers[file] = m
	go m.run()
	return nil
}

// run moves bytes until the FIFO has no writer any more or is closed.
func (m *mover) run() {
	defer close(m.done)
	for {
		var n int
		var err error
		cerr := m.raw.Read(func(fd uintptr) bool {
			n, err = m.to.Splice(int(fd), moveBytes)
			return !errors.Is(err, unix.EAGAIN)
		})
		switch {
		case cerr != nil, err == nil && n == 0:
			m.to.Close()
			return
		case err != nil:
			m.driver.log.Error("a container cannot be read", "fifo", m.to.FIFO, "err", err)
			time.Sleep(failWait) // rather than asking a broken pipe all the time
		}
	}
}

// empty moves what is in the FIFO.
func (m *mover) empty() error {
	var err error
	cerr := m.raw.Control(func(fd uintptr) {
		for n := 1; n > 0 && err == nil; {
			n, err = m.to.Splice(int(fd), moveBytes)
		}
	})
	if errors.Is(err, unix.EAGAIN) {
		err = nil
	}
	return errors.Join(cerr, err)
}

// end closes the FIFO and waits for run.
func (m *mover) end() {
	_ = m.pipe.Close()
	<-m.done
}

// Start implements engine.Driver: the container starts, whatever its options say.
func (d *Driver) Start(_ context.Context, file string, info *container.Info) error {
	raw, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode what is known of the container: %w", err)
	}
	d.log.Warn("what a container writes is put aside and not shipped, after a downgrade", "container", info.Name(), "err", d.why)
	return d.begin(file, raw)
}

// Stop implements engine.Driver.
func (d *Driver) Stop(_ context.Context, file string) error {
	d.mu.Lock()
	m := d.movers[file]
	delete(d.movers, file)
	d.mu.Unlock()
	if m == nil {
		return nil
	}
	err := m.empty()
	m.end()
	return errors.Join(err, m.to.End())
}

// ReadLogs implements engine.Driver.
func (d *Driver) ReadLogs(context.Context, *container.Info, engine.ReadConfig, io.Writer) error {
	return d.why
}

// Close stops moving. What the FIFOs bring from now on waits in them.
func (d *Driver) Close() {
	d.mu.Lock()
	d.closed = true
	all := d.movers
	d.movers = nil
	d.mu.Unlock()
	for _, m := range all {
		m.end()
	}
	used, dropped := d.aside.Used()
	d.log.Info("dockline-log stops", "put_aside_bytes", used, "dropped_bytes", dropped)
}

// Why is what is wrong with the spool.
func (d *Driver) Why() error { return d.why }

// Used returns how many bytes are put aside and how many were dropped.
func (d *Driver) Used() (used, dropped int64) { return d.aside.Used() }
