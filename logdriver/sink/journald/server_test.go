package journald

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
)

// journal is the server's side, to the letter of the protocol's description.
type journal struct {
	t      *testing.T
	dir    string
	socket *net.UnixConn
	ended  chan struct{}

	mu      sync.Mutex // guards what follows
	entries []map[string]string
	files   int
	before  func() // called before each datagram is read
}

func newJournal(t *testing.T) *journal {
	t.Helper()
	dir, err := os.MkdirTemp("", "journal") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &journal{t: t, dir: dir}
}

// listen makes the socket; what is sent there waits until serve.
func (j *journal) listen() {
	j.t.Helper()
	var err error
	if j.socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(j.dir, socketName), Net: "unixgram"}); err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { _ = j.socket.Close() })
}

func (j *journal) serve() {
	j.ended = make(chan struct{})
	go func() {
		defer close(j.ended)
		for {
			if j.before != nil {
				j.before()
			}
			entry, file, err := j.read()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				j.t.Errorf("a datagram is not as it has to be: %v", err)
				continue
			}
			j.mu.Lock()
			j.entries = append(j.entries, entry)
			if file {
				j.files++
			}
			j.mu.Unlock()
		}
	}()
	j.t.Cleanup(j.stop)
}

func (j *journal) stop() {
	_ = j.socket.Close()
	_ = os.Remove(filepath.Join(j.dir, socketName))
	<-j.ended
}

func (j *journal) got() []map[string]string { j.mu.Lock(); defer j.mu.Unlock(); return j.entries }

func (j *journal) read() (entry map[string]string, file bool, err error) {
	data, control := make([]byte, 1<<20), make([]byte, 4096)
	n, nc, flags, _, err := j.socket.ReadMsgUnix(data, control)
	if err != nil {
		return nil, false, err
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return nil, false, fmt.Errorf("flags %x", flags)
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(control[:nc])
	if err != nil {
		return nil, false, err
	}
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, false, err
		}
		fds = append(fds, more...)
	}
	if len(fds) == 0 && n > 0 {
		entry, err = parse(data[:n])
		return entry, false, err
	}
	if len(fds) != 1 || n > 0 {
		return nil, false, fmt.Errorf("%d bytes with %d descriptors", n, len(fds))
	}
	entry, err = readFile(fds[0])
	return entry, true, err
}

// readFile reads a file in memory, which nobody may be able to change any more.
func readFile(fd int) (map[string]string, error) {
	file := os.NewFile(uintptr(fd), "entry")
	defer func() { _ = file.Close() }()
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL; err != nil || seals&want != want {
		return nil, fmt.Errorf("seals %x, %w", seals, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	if _, err := file.ReadAt(data, 0); err != nil {
		return nil, err
	}
	return parse(data)
}

// validName is what journald takes for the name of a client's field
// (journal_field_valid, without what is trusted).
var validName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// parse reads an entry, in which every name is there once.
func parse(data []byte) (map[string]string, error) {
	entry := map[string]string{}
	for len(data) > 0 {
		n := bytes.IndexAny(data, "=\n")
		if n < 0 {
			return nil, fmt.Errorf("no end of a name: %q", data)
		}
		name := string(data[:n])
		var value []byte
		if data[n] == '=' {
			end := bytes.IndexByte(data, '\n')
			if end < 0 {
				return nil, fmt.Errorf("no end of %s", name)
			}
			value, data = data[n+1:end], data[end+1:]
		} else {
			rest := data[n+1:]
			if len(rest) < 8 {
				return nil, fmt.Errorf("no length of %s", name)
			}
			size := binary.LittleEndian.Uint64(rest)
			if rest = rest[8:]; size >= uint64(len(rest)) || rest[size] != '\n' {
				return nil, fmt.Errorf("%s of %d bytes has no end", name, size)
			}
			value, data = rest[:size], rest[size+1:]
		}
		if _, twice := entry[name]; twice || !validName.MatchString(name) {
			return nil, fmt.Errorf("name %q, twice: %v", name, twice)
		}
		entry[name] = string(value)
	}
	if p := entry["PRIORITY"]; len(p) != 1 || p < "0" || p > "7" {
		return nil, fmt.Errorf("priority %q", p)
	}
	if _, there := entry["MESSAGE"]; !there || len(entry) > 1024 {
		return nil, fmt.Errorf("%d fields, MESSAGE: %v", len(entry), there)
	}
	return entry, nil
}

func (j *journal) host() sink.Host {
	return sink.Host{Journal: j.dir, Log: slog.New(slog.DiscardHandler)}
}

func (j *journal) sink(params string) ship.Sink {
	j.t.Helper()
	u, err := url.Parse("journald://localhost" + params)
	if err != nil {
		j.t.Fatal(err)
	}
	s, err := New(u, j.host())
	if err != nil {
		j.t.Fatal(err)
	}
	return s
}

func (j *journal) dial(params string) ship.Conn {
	j.t.Helper()
	c, err := j.sink(params).Dial(j.t.Context())
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { _ = c.Close() })
	return c
}
