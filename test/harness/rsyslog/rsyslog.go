// Package rsyslog runs Debian's rsyslogd as a collector: octet-counted syslog
// over TCP and RELP on loopback ports, into a file that a Checker is fed from.
package rsyslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
)

// The separator ends a message in the output. Messages may hold newlines, but
// no workload writes this.
const separator = "<<end of message>>\n"

// Server is one rsyslogd.
type Server struct {
	Syslog, RELP string // addresses

	// Direct makes rsyslogd write each message to its file before it answers
	// for it, instead of keeping it in memory: what it has acknowledged then
	// survives a Kill. To be set before Start.
	Direct bool

	name string
	dir  string
	each func(collector.Record)
	cmd  *exec.Cmd
	done chan struct{} // closed when rsyslogd has ended
	stop context.CancelFunc
	wg   sync.WaitGroup // the reader of the output
	free []func()       // let go of the ports

	mu  sync.Mutex // guards err
	err error
}

// New picks ports and makes a folder in the lab; Start runs it. each is called
// for every message that rsyslogd has written.
func New(l *lab.Lab, name string, each func(collector.Record)) (*Server, error) {
	s := &Server{name: name, dir: filepath.Join(l.Dir, name), each: each}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make rsyslog's folder: %w", err)
	}
	for _, addr := range []*string{&s.Syslog, &s.RELP} {
		at, release, err := testport.Keep()
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		*addr, s.free = at, append(s.free, release)
	}
	if err := os.WriteFile(s.output(), nil, 0o644); err != nil {
		return nil, fmt.Errorf("make rsyslog's output: %w", err)
	}
	return s, nil
}

// URLs is the server as the plugin's list of collectors wants it, both ways in.
func (s *Server) URLs() []string {
	return []string{
		fmt.Sprintf("syslog+tcp://%s?name=%s-tcp", s.Syslog, s.name),
		fmt.Sprintf("relp://%s?name=%s-relp", s.RELP, s.name),
	}
}

func (s *Server) output() string { return filepath.Join(s.dir, "out") }

const config = `global(workDirectory=%q maxMessageSize="4m" parser.escapeControlCharactersOnReceive="off"
       parser.dropTrailingLFOnReception="off" net.enableDNS="off")
module(load="imtcp")
module(load="imrelp")
template(name="raw" type="string" string="%%inputname%% %%rawmsg%%%s\n")
ruleset(name="all") {
    action(type="omfile" file=%q template="raw" asyncWriting="off" flushOnTXEnd="on")
}
input(type="imtcp" address="127.0.0.1" port=%q ruleset="all")
input(type="imrelp" address="127.0.0.1" port=%q ruleset="all" maxDataSize="4m")
`

// Start runs rsyslogd, which must not run, and waits until it listens.
func (s *Server) Start(ctx context.Context) error {
	_, tcp, _ := net.SplitHostPort(s.Syslog)
	_, relp, _ := net.SplitHostPort(s.RELP)
	conf := filepath.Join(s.dir, "rsyslog.conf")
	text := ""
	if s.Direct {
		text = "main_queue(queue.type=\"Direct\")\n"
	}
	text += fmt.Sprintf(config, s.dir, strings.TrimSuffix(separator, "\n"), s.output(), tcp, relp)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write rsyslog's configuration: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make rsyslog's log: %w", err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("rsyslogd does not listen in time"))
	defer cancel()
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), "rsyslogd", "-n", "-f", conf, "-i", filepath.Join(s.dir, "pid"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start rsyslogd: %w", err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(s.cmd, s.done)
	if s.stop == nil {
		s.follow()
	}
	return s.await(ctx)
}

func (s *Server) await(ctx context.Context) error {
	for _, addr := range []string{s.Syslog, s.RELP} {
		err := proc.Await(ctx, func(ctx context.Context) error {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			return c.Close()
		})
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("start rsyslogd: %w: %s", err, bytes.TrimSpace(log))
		}
	}
	return nil
}

// Stop ends rsyslogd as the system does; Start may follow.
func (s *Server) Stop() error { return s.end(syscall.SIGTERM) }

// Kill ends rsyslogd as a crash does; Start may follow.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Pause stops rsyslogd where it stands until Resume.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig os.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send rsyslogd %v: %w", sig, err)
	}
	return nil
}

func (s *Server) end(sig os.Signal) error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end rsyslogd: %w", err)
	}
	<-s.done
	return nil
}

// Close ends rsyslogd and the reading of its output, and says what went wrong with that.
func (s *Server) Close() error {
	err := s.Stop()
	if s.stop != nil {
		s.stop()
	}
	s.wg.Wait()
	for _, free := range s.free {
		free()
	}
	s.free = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.err)
}

// follow reads what rsyslogd writes to its file until Close.
func (s *Server) follow() {
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Go(func() {
		err := tail(ctx, s.output(), s.message)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = err
	})
}

// message takes one message from the output.
func (s *Server) message(msg []byte) error {
	input, raw, _ := bytes.Cut(msg, []byte(" "))
	r, err := collector.ParseSyslog(raw)
	if torn := bytes.LastIndex(raw, []byte("im")); err != nil && torn > 0 && bytes.HasPrefix(raw[torn:], []byte("imrelp <")) {
		return s.message(raw[torn:]) // rsyslogd was killed within the write of the one before
	}
	if err != nil {
		return fmt.Errorf("rsyslog received: %w", err)
	}
	r.Collector = s.name + "-tcp"
	if string(input) == "imrelp" {
		r.Collector = s.name + "-relp"
	}
	r.Received = time.Now()
	s.each(r)
	return nil
}

// tail calls each for every message in a file, waiting for more until ctx ends.
func tail(ctx context.Context, name string, each func([]byte) error) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read rsyslog's output: %w", err)
	}
	defer f.Close()
	changes, err := watch(ctx, name)
	if err != nil {
		return err
	}
	var rest []byte
	chunk := make([]byte, 256<<10)
	for {
		n, _ := f.Read(chunk)
		if n == 0 {
			select {
			case <-changes:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		rest = append(rest, chunk[:n]...)
		for {
			msg, more, ok := bytes.Cut(rest, []byte(separator))
			if !ok {
				break
			}
			if err := each(bytes.Clone(msg)); err != nil {
				return err
			}
			rest = more
		}
	}
}

// watch sends after each change of a file, several changes becoming one.
func watch(ctx context.Context, name string) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch rsyslog's output: %w", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY); err != nil {
		events.Close()
		return nil, fmt.Errorf("watch rsyslog's output: %w", err)
	}
	changes := make(chan struct{}, 1)
	context.AfterFunc(ctx, func() { events.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := events.Read(buf); err != nil {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}
