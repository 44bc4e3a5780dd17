package logdriver

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
)

// kafkaCluster returns the addresses of a cluster's brokers, and the keys and
// headers id of what it gets.
func kafkaCluster(t *testing.T) (addrs []string, got func(n int) (keys, ids []string)) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(4, "logs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("logs"), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	return c.ListenAddrs(), func(n int) (keys, ids []string) {
		t.Helper()
		for len(keys) < n && t.Context().Err() == nil {
			reader.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
				keys, ids = append(keys, string(r.Key)), append(ids, string(r.Headers[0].Value))
			})
		}
		return keys, ids
	}
}

// A pool of brokers is one collector, whoever of them there is.
func TestAPoolOfBrokersIsOneCluster(t *testing.T) {
	addrs, got := kafkaCluster(t)
	list := filepath.Join(t.TempDir(), "collectors")
	members(t, list, "kafka://"+addrs[0]+"?topic=logs")
	h := newHost(t, "file://"+inEtc+list)
	r := h.run(1, map[string]string{"hash": "name"})
	r.write("one", "two")
	keys, _ := got(2)
	if name := strings.TrimPrefix(r.info.ContainerName, "/"); keys[0] != name || keys[1] != name {
		t.Errorf("keys are %q, not %q", keys, name)
	}
	// Another broker is known, then the first is no longer.
	members(t, list, "kafka://"+addrs[0]+"?topic=logs", "kafka://"+addrs[1]+"?topic=logs&name=b")
	h.until("there is one collector", func(s Status) bool { return len(s.Collectors) == 1 && s.Collectors[0].Name == "kafka" })
	r.write("three")
	got(1)
	members(t, list, "kafka://"+addrs[1]+"?topic=logs&name=b")
	r.write("four")
	got(1)

	each := h.run(2, map[string]string{"hash": "record"})
	each.write("a", "b", "c")
	keys, ids := got(3)
	if fmt.Sprint(keys) != fmt.Sprint(ids) || keys[0] == keys[1] {
		t.Errorf("keys are %q, ids %q", keys, ids)
	}
	r.stop()
	each.stop()
	h.until("all is delivered", func(s Status) bool { return len(s.Sources) == 0 })
}

// What is owed to a cluster is delivered when another list of brokers has come:
// those of before are gone, or take nothing.
func TestBrokersChangeWhileRecordsAreOwed(t *testing.T) {
	addrs, got := kafkaCluster(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, no more
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, before := range []string{testport.Of(t), silent.Addr().String()} { // the first is gone
		list := filepath.Join(t.TempDir(), "collectors")
		members(t, list, "kafka://"+before+"?topic=logs&timeout=2s")
		h := newHost(t, "file://"+inEtc+list)
		one, each := h.run(1, map[string]string{"hash": "name"}), h.run(2, map[string]string{"hash": "record"})
		one.write("a", "b", "c")
		each.write("d", "e")
		h.until("it is tried", func(s Status) bool { return len(s.Collectors) == 1 && !s.Collectors[0].Healthy })
		members(t, list, "kafka://"+addrs[1]+"?topic=logs&timeout=2s")
		if _, ids := got(5); len(ids) != 5 {
			t.Errorf("%q", ids)
		}
		one.write("f")
		one.stop()
		each.stop()
		got(1)
		h.until("all is delivered", func(s Status) bool { return len(s.Sources) == 0 })
	}
}

func TestClustersAreNotMixed(t *testing.T) {
	p := newPools(newHost(t, "").plugin.ship, nil, "", t.TempDir(), quiet)
	defer p.close()
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
		err := p.validate(&config.Pool{Name: "p", List: tc.list}, t.TempDir())
		if (tc.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, want %q", tc.list, err, tc.err)
		}
	}
	members, err := discover.ParseList("kafka://a?topic=logs&weight=0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.pool("x", &config.Pool{}, members, false); err == nil || !strings.Contains(err.Error(), "weight 0") {
		t.Errorf("%v", err)
	}
}
