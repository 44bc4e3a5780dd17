package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/test/harness/collector"
)

// A Kafka cluster gets every record, each container's in order in one partition,
// though leaders move and the plugin is killed meanwhile. What comes again by that
// has the id that it had.
func TestKafka(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	e := ownEngine(ctx, t)
	b := newBench(t, ctx, e)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(6, "logs.shop", "logs.other"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for _, addr := range cluster.ListenAddrs() {
		b.urls = append(b.urls, "kafka://"+addr+"?topic=logs.{attr.project|other}")
	}
	b.consume(cluster)

	said := b.wantRefused("--log-opt", "collectors="+strings.ReplaceAll(b.urls[0], "|other", ""))
	if !strings.Contains(said, "{attr.project|other}") {
		t.Errorf("a container without what its topic is chosen by: %s", said)
	}
	b.start("kafka-shop", []string{"--label", "project=shop", "--log-opt", "labels=project"}, "workload", "seq", "-n", "40000", "-rate", "10000")
	b.start("kafka-other", []string{"--log-opt", "hash=name"}, "workload", "binary")
	for kill := range int32(2) {
		b.await("kafka-shop", 8000*uint64(kill+1))
		for n := range int32(6) {
			if err := cluster.MoveTopicPartition("logs.shop", n, (n+kill)%3); err != nil {
				t.Fatal(err)
			}
		}
		old, err := e.KillPlugin(ctx, driver)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.AwaitPlugin(ctx, driver, old); err != nil {
			t.Fatal(err)
		}
	}
	b.finish("kafka-shop", "kafka-other")
	rep := b.settle()
	for name, topic := range map[string]string{"kafka-shop": "logs.shop", "kafka-other": "logs.other"} {
		used := 0
		for _, i := range cluster.PartitionInfos(topic) {
			if i.HighWatermark > 0 {
				used++
			}
		}
		if used != 1 {
			t.Errorf("%s is in %d partitions of %s", name, used, topic)
		}
		if c := b.where(name); len(c.Collectors) != 1 || c.Collectors[0] != "kafka" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	t.Logf("%d records came again", rep.Duplicated)
}

// consume has the bench's checker see what is in the cluster.
func (b *bench) consume(cluster *kfake.Cluster) {
	b.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("logs.shop", "logs.other"), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(100*time.Millisecond), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(b.ctx)
	b.Cleanup(func() { cancel(); <-done; c.Close() })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.PollFetches(ctx).EachRecord(func(r *kgo.Record) { b.taken(r) })
		}
	}()
}

// taken is for a message that was read.
func (b *bench) taken(r *kgo.Record) {
	var o struct {
		Container string `json:"container_name"`
		Source    string `json:"stream"`
		Message   string `json:"message"`
		Base64    []byte `json:"message_base64"`
		Cut       bool   `json:"cut"`
	}
	if err := json.Unmarshal(r.Value, &o); err != nil {
		b.Errorf("a message is no JSON: %v", err)
		return
	}
	line := []byte(o.Message)
	if o.Base64 != nil {
		line = o.Base64
	}
	id := ""
	for _, h := range r.Headers {
		if h.Key == "id" {
			id = string(h.Value)
		}
	}
	b.check.Record(collector.Record{Collector: "kafka", ID: id, Container: o.Container, Source: o.Source, Line: line, Cut: o.Cut, Received: time.Now()})
}
