package discover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/testleak"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// follower is what a source says, in order.
type follower struct {
	*testing.T
	said chan string
	ends chan error
}

// follow follows a source until the test ends.
func followSource(t *testing.T, s Source) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{T: t, said: make(chan string, 64), ends: make(chan error, 1)}
	go func() { f.ends <- s.Follow(ctx, func(m []Collector) { f.said <- list(m) }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-f.ends:
		case <-time.After(10 * time.Second):
			t.Error("the source does not end")
		}
	})
	return f
}

// list writes members as name*weight.
func list(members []Collector) string {
	var out []string
	for _, m := range members {
		out = append(out, fmt.Sprintf("%s*%d", m.Name, m.Weight))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// awaits waits until the source says that.
func (f *follower) awaits(want string) {
	f.Helper()
	var got []string
	for {
		select {
		case s := <-f.said:
			if s == want {
				return
			}
			got = append(got, s)
		case err := <-f.ends:
			f.ends <- err
			f.Fatalf("it ended: %v; before, it said %q, never %q", err, got, want)
		case <-time.After(20 * time.Second):
			f.Fatalf("it said %q, never %q", got, want)
		}
	}
}

// fails waits until the source ends with such an error.
func (f *follower) fails(want string) {
	f.Helper()
	select {
	case err := <-f.ends:
		f.ends <- err
		if err == nil || !strings.Contains(err.Error(), want) {
			f.Fatalf("it ended with %v, without %q", err, want)
		}
	case <-time.After(20 * time.Second):
		f.Fatal("it did not fail")
	}
}

func source(t *testing.T, entry string, host Host) Source {
	t.Helper()
	all, err := Parse(entry, host)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%s is %d sources", entry, len(all))
	}
	return all[0]
}

func TestParseRefuses(t *testing.T) {
	for entry, want := range map[string]string{
		"file://relative/path":                                      "file:///path/to/list",
		"dns+json+tcp://logs.example":                               "dns+SCHEME://name:port",
		"dns://logs.example:5":                                      "dns+SCHEME://name:port",
		"srv+relp://_logs._tcp.example:12":                          "the records tell the port",
		"consul+relp://127.0.0.1:8500":                              "host:port/service",
		"consul+relp://127.0.0.1:8500/a?consul-tls=yes":             "neither on nor off",
		"consul+relp://127.0.0.1:8500/a?consul-token-file=/etc/no/": "consul-token-file",
		"etcd+relp://127.0.0.1:2379":                                "host:port/prefix/",
		"etcd+relp://127.0.0.1:2379/a/?etcd-user=u":                 "go together",
		"etcd+relp://127.0.0.1:2379/a/?etcd-ca=/etc/no/such":        "etcd-ca",
		"dns+relp://logs.example:1?name=a":                          "name and weight are for a collector",
		"file:///etc/list?weight=2":                                 "a file has no parameters",
		"dns+relp://u:secret@a:x":                                   "…@a:x",
	} {
		_, err := Parse(entry, Host{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q in it", entry, err, want)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write := func(content string) { // as editors do
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	followSource(t, source(t, "file:///etc/list", Host{Etc: filepath.Dir(path)})).fails("no such file")
	write("relp://a:1 # the old one\nrelp://b:1?weight=3\n")
	f := followSource(t, source(t, "file:///etc/list", Host{Etc: filepath.Dir(path)}))
	f.awaits("a:1*1 b:1*3")
	write("relp://b:1\n")
	f.awaits("b:1*1")
	// The folder is another one now.
	if err := errors.Join(os.Rename(filepath.Dir(path), filepath.Dir(path)+".old"), os.Mkdir(filepath.Dir(path), 0o700)); err != nil {
		t.Fatal(err)
	}
	f2 := follower{T: t, said: make(chan string, 64), ends: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := make(chan event)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		follow(ctx, 0, source(t, "file:///etc/list", Host{Etc: filepath.Dir(path)}), events)
	}()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-events:
				f2.said <- fmt.Sprint(list(e.members), e.err != nil)
			}
		}
	}()
	f2.awaits("true")
	write("relp://c:1\n")
	f2.awaits("c:1*1false")
	for i := range 3 { // replaced so fast that the file is always there
		next := filepath.Dir(path) + fmt.Sprint(".next", i)
		if err := errors.Join(os.Mkdir(next, 0o700), os.WriteFile(filepath.Join(next, "list"), fmt.Appendf(nil, "relp://d%d:1", i), 0o600),
			unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, filepath.Dir(path), unix.RENAME_EXCHANGE)); err != nil {
			t.Fatal(err)
		}
		f2.awaits(fmt.Sprintf("d%d:1*1false", i))
	}
	write("relp://e:1\n")
	f2.awaits("e:1*1false")
	cancel()
	<-ended
}

// A file that is no list says nothing of what is in it.
func TestFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list")
	for name, c := range map[string]struct {
		make func() error
		want string
	}{
		"secrets":      {func() error { return os.WriteFile(path, []byte("# passwd\nroot:hunter2:19000\n"), 0o600) }, "/etc/list, line 2: an entry is not of the form"},
		"a mistake":    {func() error { return os.WriteFile(path, []byte("relp://u:hunter2@a:x"), 0o600) }, "…@a:x"},
		"a source":     {func() error { return os.WriteFile(path, []byte("file:///etc/other"), 0o600) }, "cannot name other sources"},
		"a pipe":       {func() error { return unix.Mkfifo(path, 0o600) }, "is not a file"},
		"a folder":     {func() error { return os.Mkdir(path, 0o700) }, "is not a file"},
		"far too much": {func() error { return os.WriteFile(path, make([]byte, maxList+1), 0o600) }, "larger than"},
		"nothing":      {func() error { return nil }, "/etc/list: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := errors.Join(os.RemoveAll(path), c.make()); err != nil {
				t.Fatal(err)
			}
			err := source(t, "file:///etc/list", Host{Etc: dir}).Follow(t.Context(), func(m []Collector) { t.Errorf("it names %v", m) })
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := Parse("file:///nowhere/on/the/host/list", Host{Etc: dir}); err == nil || !strings.Contains(err.Error(), "below the host's /etc") {
		t.Errorf("a file that cannot be seen: %v", err)
	}
}

// A list and a source beside each other: what the list says is known at once, and
// a name that both have is there once.
func TestKnown(t *testing.T) {
	a, err := ParseList("relp://x:1?name=a,relp://y:1?name=b")
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseList("relp://z:1?name=b,relp://z:2?name=c")
	if err != nil {
		t.Fatal(err)
	}
	sources, last := []Source{make(fake), Static(a)}, map[string][]Collector{"fake": b}
	if got := list(Known(sources, last)); got != "a*1 b*1 c*1" {
		t.Errorf("known is %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	Follow(ctx, sources, last, func(m []Collector, _ []State) {
		if list(m) != "a*1 b*1 c*1" {
			t.Errorf("it begins with %s", list(m))
		}
		cancel()
	})
	for range 20 { // two with the same name: the same one wins, in whatever order they come
		m := sorted([]Collector{b[0], a[1], a[0]})
		n := sorted([]Collector{a[0], a[1], b[0]})
		if !slices.EqualFunc(m, n, Collector.Equal) {
			t.Fatalf("%v and %v", m, n)
		}
	}
}

// fake is a source that a test speaks for.
type fake chan any

func (f fake) String() string { return "fake" }
func (f fake) ID() string     { return "fake" }

func (f fake) Follow(ctx context.Context, set func([]Collector)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case v := <-f:
			switch v := v.(type) {
			case error:
				return v
			case []Collector:
				set(v)
			}
		}
	}
}

func TestFollowKeepsTheLastGoodMembers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a, err := ParseList("relp://a:1,relp://b:1")
	if err != nil {
		t.Fatal(err)
	}
	f := make(fake)
	said := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Follow(ctx, []Source{f, Static(a[:1])}, map[string][]Collector{"fake": a[1:]}, func(m []Collector, states []State) {
			said <- fmt.Sprint(list(m), " ", states[0].Err != nil)
		})
	}()
	await := func(want string) {
		t.Helper()
		var got []string
		for {
			select {
			case s := <-said:
				if s == want {
					return
				}
				got = append(got, s)
			case <-time.After(20 * time.Second):
				t.Fatalf("said %q, never %q", got, want)
			}
		}
	}
	await("a:1*1 b:1*1 false") // b is from the last life
	f <- errors.New("away")
	await("a:1*1 b:1*1 true")
	f <- a
	await("a:1*1 b:1*1 false")
	f <- []Collector{}
	await("a:1*1 b:1*1 true")
	f <- a[:1]
	await("a:1*1 false")
	cancel()
	<-done
}
