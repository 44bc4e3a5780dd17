package pool

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/ship"
)

func TestMain(m *testing.M) { testleak.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestTheSameKeyGoesToTheSameCollectorOnEveryHost(t *testing.T) {
	a, b := "json+tcp://10.0.0.1:1?name=a,json+tcp://10.0.0.2:1?name=b,json+tcp://10.0.0.3:1?name=c", "json+tcp://10.0.0.3:1?name=c json+tcp://10.9.9.9:7?name=a json+tcp://10.0.0.2:1?name=b"
	use := func(list string) (ship.Pool, error) {
		s := ship.New(quiet)
		defer s.Close()
		p := Open(s, Host{Log: quiet}, t.TempDir())
		defer p.Close()
		pool, done, err := p.Use(&config.Pool{List: list})
		defer done()
		return pool, err
	}
	p1, err1 := use(a)
	p2, err2 := use(b)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for i := range 1000 {
		if k := fmt.Sprint(i); !slices.Equal(p1.Rank(k), p2.Rank(k)) {
			t.Fatalf("%s: %v, %v", k, p1.Rank(k), p2.Rank(k))
		}
	}
}

func TestClustersAreNotMixed(t *testing.T) {
	host := Host{Config: t.TempDir(), Log: quiet}
	for _, tc := range []struct{ list, err string }{
		{"kafka://a?topic=logs,kafka://b:9093?topic=logs&weight=0", ""},
		{"kafka://a?topic=logs,kafka://b?topic=other", "in more than the host"},
		{"kafka://a?topic=logs,kafka+tls://b?topic=logs", "nothing else can be in it"},
		{"json+tcp://a:1,kafka://b?topic=logs", "nothing else can be in it"},
		{"kafka://a", "name the topic"},
		{"kafak://a?topic=logs", `did you mean "kafka"?`},
		{"gelf://a", `did you mean "gelf+tcp" or "gelf+tls" or "gelf+udp"?`},
		{"otlp://a", `did you mean "otlp+grpc" or "otlp+grpc+tls" or "otlp+http" or "otlp+https"?`},
		{"loki://a", `did you mean "loki+http" or "loki+https"?`},
		{"kafka://a:9092;b:9092?topic=logs", `"a:9092;b" is not the name of a host`},
		{"kafka://a:9092,b:9092?topic=logs", "as each that a list has between its commas has to be"},
		{"dns+kafka://a:9092", "name the topic"},
		{"dns+kafka://a:9092?topic=logs", ""},
	} {
		err := host.Validate(&config.Pool{Name: "p", List: tc.list})
		if (tc.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, want %q", tc.list, err, tc.err)
		}
	}
	members, err := discover.ParseList("kafka://a?topic=logs&weight=0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.pool("x", &config.Pool{}, members, false); err == nil || !strings.Contains(err.Error(), "weight 0") {
		t.Errorf("%v", err)
	}
}

// A pipe that a pool names holds up nobody.
func TestAPoolsFileIsAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	host := Host{Config: filepath.Dir(pipe), Log: quiet}
	for _, def := range []*config.Pool{
		{Name: "a", List: "relp://127.0.0.1:1", Secrets: map[string]string{"timeout": "pipe"}},
		{Name: "b", List: "relp://127.0.0.1:1", Files: map[string]string{"tls-ca": "pipe"}},
	} {
		if err := host.Validate(def); err == nil || !strings.Contains(err.Error(), "pipe is not a file") {
			t.Errorf("pool %s: %v", def.Name, err)
		}
	}
}
