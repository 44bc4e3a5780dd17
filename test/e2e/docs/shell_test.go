package docs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dockline/dockline/test/docs"
	"github.com/dockline/dockline/test/harness/proc"
)

// shell is one that a reader types a page's commands into: variables and the
// working directory stay from one block to the next.
type shell struct {
	dir   string
	stdin io.Writer
	said  *bufio.Scanner
	pid   int
	n     int
	asked <-chan func()
}

// failure is a command that ended with another exit code than 0.
type failure struct {
	line, code int
	command    string
}

func (f failure) String() string {
	return fmt.Sprintf("line %d: %s: exit code %d", f.line, f.command, f.code)
}

// trap has every command that fails noted, those but that the shell itself does
// not take for failures (in conditions, before ||).
const trap = `set -E -o pipefail; trap 'c=$? l=$LINENO; printf "%%d %%d %%s\n" $l $c "${BASH_COMMAND//[$'\''\n'\'']/ }" >>%s' ERR
`

func startShell(m *machine) *shell {
	t := m.world.parent
	t.Helper()
	dir, err := os.MkdirTemp(m.dir, "shell")
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{dir: dir, asked: m.world.asked}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := m.Command(ctx, "bash")
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr // of the shell itself: there is none
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	s.stdin, s.said, s.pid = stdin, bufio.NewScanner(stdout), cmd.Process.Pid
	s.send(fmt.Sprintf(trap, s.failed()))
	return s
}

// environment is a root's that has just logged in, with the go command.
func environment() []string {
	env := []string{"HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin"}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "GO") {
			env = append(env, v)
		}
	}
	return env
}

func (s *shell) failed() string { return filepath.Join(s.dir, "failed") }

func (s *shell) send(line string) { _, _ = io.WriteString(s.stdin, line) } // a shell that is gone does not answer either

func (s *shell) cd(dir string) { s.send("cd " + dir + "\n") }

// run has a block carried out and returns what it printed, stderr among it.
func (s *shell) run(ctx context.Context, b docs.Block) (out string, failures []failure, err error) {
	s.n++
	script := filepath.Join(s.dir, strconv.Itoa(s.n))
	if err := os.WriteFile(script, []byte(b.Text+"\n:\n"), 0o644); err != nil {
		return "", nil, fmt.Errorf("write a block down: %w", err)
	}
	if err := os.Remove(s.failed()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", nil, fmt.Errorf("begin a block: %w", err)
	}
	done := make(chan bool, 1)
	go func() { done <- s.said.Scan() }()
	s.send(fmt.Sprintf(". %s >%s.out 2>&1 </dev/null; echo\n", script, script))
	err = s.await(ctx, done, script+".out", b.Until)
	printed, _ := os.ReadFile(script + ".out")
	if err != nil {
		return string(printed), nil, err
	}
	failures, err = readFailures(s.failed())
	return string(printed), failures, err
}

// await waits for the end of a block; one that goes on until it printed
// something is then interrupted, as by ^C.
func (s *shell) await(ctx context.Context, done <-chan bool, out, until string) error {
	tick := time.NewTicker(50 * time.Millisecond) // nobody announces what stands in a file
	defer tick.Stop()
	for {
		select {
		case ok := <-done:
			if !ok {
				return errors.New("the shell ended")
			}
			return nil
		case do := <-s.asked:
			do()
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), s.signal(syscall.SIGKILL))
		case <-tick.C:
			if printed, err := os.ReadFile(out); until != "" && err == nil && strings.Contains(string(printed), until) {
				until = ""
				if err := s.signal(syscall.SIGINT); err != nil {
					return err
				}
			}
		}
	}
}

// signal is sent to what the shell runs; SIGKILL to the shell, too.
func (s *shell) signal(sig syscall.Signal) error {
	all, err := proc.All()
	if err != nil {
		return err
	}
	for pid := range proc.Descendants(all, map[int]bool{s.pid: true}) {
		if pid != s.pid || sig == syscall.SIGKILL {
			_ = syscall.Kill(pid, sig) // which may be gone
		}
	}
	return nil
}

func readFailures(name string) (all []failure, err error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read which commands failed: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		var f failure
		if _, err := fmt.Sscanf(line, "%d %d", &f.line, &f.code); err != nil {
			return nil, fmt.Errorf("read which commands failed: %w: %q", err, line)
		}
		f.command = strings.TrimSpace(strings.SplitN(line, " ", 3)[2])
		all = append(all, f)
	}
	return all, nil
}
