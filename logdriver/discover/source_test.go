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

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		"file://relative/path":                                  "file:///path/to/list",
		"dns+json+tcp://logs.example":                           "dns+SCHEME://name:port",
		"dns://logs.example:5":                                  "dns+SCHEME://name:port",
		"srv+relp://_logs._tcp.example:12":                      "the records tell the port",
		"consul+relp://127.0.0.1:8500":                          "host:port/service",
		"consul+relp://127.0.0.1:8500/a?consul-tls=yes":         "neither on nor off",
		"consul+relp://127.0.0.1:8500/a?consul-token-file=/no/": "consul-token-file",
		"etcd+relp://127.0.0.1:2379":                            "host:port/prefix/",
		"etcd+relp://127.0.0.1:2379/a/?etcd-user=u":             "go together",
		"etcd+relp://127.0.0.1:2379/a/?etcd-ca=/no/such":        "etcd-ca",
		"dns+relp://u:secret@a:x":                               "…@a:x",
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
	write("relp://b:1, reelp\n")
	f.fails(`"reelp"`)
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
