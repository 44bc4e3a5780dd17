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
	"github.com/dockline/dockline/logdriver/admin"
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
	h.until("there is one collector", func(s admin.Status) bool { return len(s.Collectors) == 1 && s.Collectors[0].Name == "kafka" })
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
	h.until("all is delivered", func(s admin.Status) bool { return len(s.Sources) == 0 })
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
		h.until("it is tried", func(s admin.Status) bool { return len(s.Collectors) == 1 && !s.Collectors[0].Healthy })
		members(t, list, "kafka://"+addrs[1]+"?topic=logs&timeout=2s")
		if _, ids := got(5); len(ids) != 5 {
			t.Errorf("%q", ids)
		}
		one.write("f")
		one.stop()
		each.stop()
		got(1)
		h.until("all is delivered", func(s admin.Status) bool { return len(s.Sources) == 0 })
	}
}
