// Package journald sends records to the journal of the host, in its native
// protocol (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md).
//
//	journald://localhost
//
// Parameters: timeout, for how long the journal may take nothing, and max-line.
//
// A record is an entry. Its fields are those of the engine's own journald driver,
// by the same names (CONTAINER_ID, CONTAINER_NAME, CONTAINER_TAG, IMAGE_NAME,
// SYSLOG_IDENTIFIER, PRIORITY, …); what else is known of the container, by the
// names of field.Field behind DOCKLINE_; attributes and what was lifted out of the
// line under their own names, as far as the journal knows such; and DOCKLINE_ID,
// the record's id, the same when it is sent again.
//
// A record is acknowledged when it is in the socket's queue, as with everything
// that sends to the journal: there is no answer.
package journald

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// socketName is the socket's name in the journal's folder.
const socketName = "socket"

type collector struct {
	*wire.Target
	socket string
}

// NoSocketError says that the plugin does not see the journal.
type NoSocketError struct{ Err error }

func (e *NoSocketError) Error() string {
	return fmt.Sprintf("the journal's socket is not seen (%v): give the plugin the folder that it is in, while the plugin is disabled, "+
		"with docker plugin set PLUGIN journal.source=/run/systemd/journal, and see that systemd-journald runs", e.Err)
}

func (e *NoSocketError) Unwrap() error { return e.Err }

// New returns the sink that u describes. The journal's folder has to be there.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	if u.Host != "localhost" {
		return nil, fmt.Errorf("collector URL %s: the journal is this host's own: want journald://localhost", redact.URL(u))
	}
	// The port means nothing: the URL has none.
	target, err := wire.ParseTarget(u, host, wire.Spec{Schemes: map[string]string{"journald": "1"}})
	if err != nil {
		return nil, err
	}
	c := &collector{Target: target, socket: filepath.Join(host.Journal, socketName)}
	if host.Journal == "" {
		return c, nil // nobody is reached from here
	}
	info, err := os.Stat(c.socket)
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		err = errors.New("not a socket")
	}
	if err != nil {
		return nil, &NoSocketError{reason(err)}
	}
	return c, nil
}

// reason takes from an error the path that the operator does not know.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// batchBytes is more than a system call's cost is felt at, and little enough that
// not much comes twice after a journald that went away within a batch.
const batchBytes = 64 << 10

// Limits implements ship.Sink.
func (c *collector) Limits() ship.Limits {
	return ship.Limits{BatchBytes: batchBytes, BatchRecords: 1024, InFlight: 2, RecordBytes: c.MaxLine}
}

// Prepare implements ship.Sink.
func (c *collector) Prepare(m *ship.Meta) ship.Template { return newTemplate(m) }

// Dial implements ship.Sink.
func (c *collector) Dial(ctx context.Context) (ship.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to the journal: %w", err)
	}
	if c.Host.Journal == "" {
		return nil, &NoSocketError{errors.New("no folder for it")}
	}
	socket, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: c.socket, Net: "unixgram"})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoSocketError{fs.ErrNotExist}
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the journal: %w", err)
	}
	// As much as the kernel gives without asking for privileges.
	if err := socket.SetWriteBuffer(sendBuffer); err != nil {
		return nil, errors.Join(fmt.Errorf("enlarge the socket's buffer: %w", err), socket.Close())
	}
	return newConn(socket, c.Timeout), nil
}
