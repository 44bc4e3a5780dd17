// Package journald runs Debian's systemd-journald beside that of the machine, if
// there is one: with a /run of its own, so that neither knows of the other.
package journald

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/thread"
)

const (
	daemon = "/usr/lib/systemd/systemd-journald"
	// config keeps everything in the folder, and takes nothing but from the sockets.
	config = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nForwardToConsole=no\nForwardToWall=no\nRuntimeMaxUse=256M\n"
)

// Server is one journald, and its socket, which stays when the daemon stops: as
// systemd keeps it.
type Server struct {
	Dir string // what is /run/systemd/journal for the plugin

	run    string // the daemon's /run
	socket *os.File
	cmd    *exec.Cmd
	said   bytes.Buffer
}

// New makes the socket, in a folder that is removed by the caller. What is sent
// there waits until Start.
func New(dir string) (*Server, error) {
	s := &Server{run: dir, Dir: filepath.Join(dir, "systemd/journal")}
	for _, d := range []string{s.Dir, filepath.Join(dir, "log/journal"), filepath.Join(dir, "systemd/journald.conf.d")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make the journal's folder: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "systemd/journald.conf.d/test.conf"), []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("configure the journal: %w", err)
	}
	return s, thread.Run(s.listen)
}

// listen binds the socket by the name that journald knows it by, on a thread that
// has mounts of its own then.
func (s *Server) listen() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts from others: %w", err)
	}
	if err := unix.Mount(s.run, "/run", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount a folder at /run: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make the journal's socket: %w", err)
	}
	s.socket = os.NewFile(uintptr(fd), "journal")
	const name = "/run/systemd/journal/socket"
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1), os.Chmod(name, 0o666)); err != nil {
		return errors.Join(fmt.Errorf("bind the journal's socket: %w", err), s.socket.Close())
	}
	return nil
}

// Start runs the daemon, which is given the socket as systemd gives it.
func (s *Server) Start() error {
	const script = `mount --bind "$1" /run && LISTEN_FDS=1 LISTEN_PID=$$ exec "$2"`
	s.cmd = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", s.run, daemon)
	s.cmd.ExtraFiles = []*os.File{s.socket}
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start journald: %w", err)
	}
	return nil
}

// Stop ends the daemon in order; what it has not read waits in the socket.
func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	err := errors.Join(s.cmd.Process.Signal(unix.SIGTERM), s.cmd.Wait())
	s.cmd = nil
	if err != nil {
		return fmt.Errorf("stop journald: %w: %s", err, s.said.String())
	}
	return nil
}

// Close ends the daemon, if it runs, and the socket.
func (s *Server) Close() error {
	return errors.Join(s.Stop(), s.socket.Close(), os.Remove(filepath.Join(s.Dir, "socket")))
}

// Read returns the entries that the plugin sent, in order, as journalctl shows them.
func (s *Server) Read(ctx context.Context) ([]map[string]string, error) {
	cmd := exec.CommandContext(ctx, "journalctl", "--directory", filepath.Join(s.run, "log/journal"), "--output", "export", "--all", "--quiet", "--no-pager", "_TRANSPORT=journal")
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return parse(out)
}

// parse reads systemd's export format (docs/JOURNAL_EXPORT_FORMATS.md).
func parse(out []byte) ([]map[string]string, error) {
	var all []map[string]string
	entry := map[string]string{}
	for len(out) > 0 {
		line, rest, _ := bytes.Cut(out, []byte("\n"))
		out = rest
		name, value, text := strings.Cut(string(line), "=")
		switch {
		case len(line) == 0:
			all = append(all, entry)
			entry = map[string]string{}
			continue
		case !text:
			if len(rest) < 8 {
				return nil, fmt.Errorf("no length of %s", name)
			}
			n := binary.LittleEndian.Uint64(rest)
			if n >= uint64(len(rest)-8) {
				return nil, fmt.Errorf("%s has %d bytes", name, n)
			}
			value, out = string(rest[8:8+n]), rest[8+n+1:]
		}
		entry[name] = value
	}
	if len(entry) > 0 {
		all = append(all, entry)
	}
	return all, nil
}
