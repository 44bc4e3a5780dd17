package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

// streams are some whose keys are in all partitions.
func streams(s ship.Sink) (tmpls []ship.Template) {
	for i := range 6 {
		tmpls = append(tmpls, s.Prepare(meta(fmt.Sprint("k", i))))
	}
	return tmpls
}

// mixed sends n records of every stream in batches of which each has all streams.
func mixed(t *testing.T, c *conn, tmpls []ship.Template, batches, each int) (uint64, error) {
	t.Helper()
	for b := range batches {
		var dst []byte
		for i := range each {
			for _, tmpl := range tmpls {
				dst = c.Append(dst, tmpl, record(b*each+i))
			}
		}
		if err := c.Send(t.Context(), dst); err != nil {
			return 0, err
		}
		if acked, err := sinktest.Wait(t, c, uint64(b+1)); err != nil {
			return acked, err
		}
	}
	return uint64(batches), nil
}

var produces = []kmsg.Key{kmsg.Produce}

// What brokers get over is no reason to end the connection, and changes no order.
func TestPassingFaults(t *testing.T) {
	for _, tc := range []kfake.Fault{
		{Err: kerr.NotLeaderForPartition, Count: 3},
		{Err: kerr.LeaderNotAvailable, Count: 2},
		{Err: kerr.RequestTimedOut, Count: 2},
		{Err: kerr.NotEnoughReplicas, Count: 3},
		{Err: kerr.NotEnoughReplicasAfterAppend, Count: 2},
		{Err: kerr.NotEnoughReplicas, Partitions: []int32{1}, Count: 4},
		{Err: kerr.RequestTimedOut, Partitions: []int32{2}, Count: 2},
		{Err: kerr.KafkaStorageError, Nodes: []int32{0}, Count: 2},
		{Err: kerr.NetworkException, Count: 2},
		{Err: kerr.OutOfOrderSequenceNumber, Partitions: []int32{0}, Count: 1},
		{Err: kerr.UnknownProducerID, Count: 1},
		{Err: kerr.UnknownTopicOrPartition, Count: 2},
		{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, Count: 2},
		{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.LeaderNotAvailable, Count: 2},
	} {
		t.Run(fmt.Sprintf("%s %v", tc.Err.Message, tc.Partitions), func(t *testing.T) {
			t.Parallel()
			p := start(t)
			s := p.open("kafka://")
			c := connect(t, s)
			if tc.Keys == nil {
				tc.Keys = produces
			}
			faults := p.Fault(tc)
			if acked, err := mixed(t, c, streams(s), 3, 10); acked != 3 || err != nil {
				t.Fatalf("acked %d, %v", acked, err)
			}
			if faults.Hits() == 0 {
				t.Error("nothing was injected")
			}
			for i := range 6 {
				p.exactly(fmt.Sprint("k", i), 30)
			}
		})
	}
}

func TestLeadersMove(t *testing.T) {
	p := start(t, kfake.NumBrokers(3))
	s := p.open("kafka://")
	c, tmpls := connect(t, s), streams(s)
	for round := range 4 {
		for n := range int32(partitions) {
			if err := p.MoveTopicPartition("logs", n, (n+int32(round))%3); err != nil {
				t.Fatal(err)
			}
		}
		for _, tmpl := range tmpls {
			sent(t, c, tmpl, round*10, 1, 10)
		}
	}
	for i := range 6 {
		if again := p.exactly(fmt.Sprint("k", i), 40); again > 0 {
			t.Errorf("%d came again", again)
		}
	}
}

// What nobody but an operator can change holds everything back, and says so.
func TestHeldBack(t *testing.T) {
	for _, tc := range []struct {
		fault kfake.Fault
		says  string
	}{
		{kfake.Fault{Err: kerr.TopicAuthorizationFailed}, "ACLs for Describe and Write"},
		{kfake.Fault{Err: kerr.InvalidTopicException}, "do not want such a topic"},
		{kfake.Fault{Err: kerr.UnsupportedCompressionType}, "compress="},
		{kfake.Fault{Err: kerr.ClusterAuthorizationFailed, Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true}, "IdempotentWrite"},
		{kfake.Fault{Err: kerr.InvalidRecord}, "refuses whatever it is sent"},
	} {
		p := start(t)
		if tc.fault.Keys == nil {
			tc.fault.Keys = produces
		}
		tc.fault.Count = -1
		p.Fault(tc.fault)
		c, tmpl := p.dial()
		acked, err := send(t, c, tmpl, 0, 1, 3)
		var held *Error
		if acked != 0 || err == nil || !strings.Contains(err.Error(), tc.says) || !errors.As(err, &held) || held.RetryAfter() != slowly {
			t.Errorf("%v: acked %d, %v", tc.fault.Err, acked, err)
		}
		if refused := c.Refused(); len(refused) > 0 {
			t.Errorf("%v: refused %v", tc.fault.Err, refused)
		}
	}
}

func TestUnknownTopic(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := start(t)
	c, tmpl := p.dial("topic=nowhere")
	if acked, err := send(t, c, tmpl, 0, 1, 3); acked != 0 || err == nil || !strings.Contains(err.Error(), "create-topics=on") {
		t.Errorf("acked %d, %v", acked, err)
	}
}

func TestTopicsAreCreated(t *testing.T) {
	p := start(t, kfake.AllowAutoTopicCreation())
	c, tmpl := p.dial("topic=new.{container_name}", "create-topics=on")
	sent(t, c, tmpl, 0, 1, 3)
	if n := len(p.kept("new.web-1")); n != 3 {
		t.Errorf("%d records", n)
	}
}

// A stream whose topic there is not does not hold up the others.
func TestOneTopicIsMissing(t *testing.T) {
	t.Parallel() // it waits most of the time
	var got []ship.Refusal
	patiently(t, 5*time.Second, func(patience time.Duration) error {
		p := start(t)
		s := p.open("kafka://", "topic={tag}", "timeout="+patience.String())
		c := connect(t, s)
		there, away := meta("k1"), meta("k2")
		there.Tag, away.Tag = "logs", "away"
		sent(t, c, s.Prepare(there), 0, 1, 10)
		if acked, err := send(t, c, s.Prepare(away), 0, 1, 2); acked != 1 || err != nil {
			return fmt.Errorf("acked %d, %w", acked, err)
		}
		sent(t, c, s.Prepare(there), 10, 1, 10)
		p.exactly("k1", 20)
		got = c.Refused()
		return nil
	})
	if len(got) != 2 || got[0].Class != "no-topic" || !strings.Contains(got[0].Reason, "topic away") || got[0].ID != "s-k2-0000000000000000" || got[0].Container != "web-1" {
		t.Errorf("refused: %+v", got)
	}
}

// Brokers that have just begun do not know of topics that there are.
func TestTopicsAreNotKnownYet(t *testing.T) {
	t.Parallel() // it waits most of the time
	for _, fault := range []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.UnknownTopicOrPartition, Count: 7},
		{Keys: produces, Err: kerr.TopicAuthorizationFailed, Count: 2},
	} {
		p := start(t)
		s := p.open("kafka://", "topic={tag}")
		c := connect(t, s)
		m := meta("k1")
		m.Tag = "logs"
		faults := p.Fault(fault)
		sent(t, c, s.Prepare(m), 0, 1, 10)
		p.exactly("k1", 10)
		if got := c.Refused(); len(got) > 0 || faults.Hits() < 2 {
			t.Errorf("%v: %d are put aside after %d faults", fault.Err, len(got), faults.Hits())
		}
	}
}

// A broker that is off leaves time for the others that are listed.
func TestOneBrokerIsOff(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := start(t)
	_, port, err := net.SplitHostPort(p.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	var urls []*url.URL
	for _, addr := range []string{sinktest.Blackhole(t), "localhost:" + port} { // the client begins with the first by name
		urls = append(urls, &url.URL{Scheme: "kafka", Host: addr, RawQuery: "topic=logs&timeout=3s"})
	}
	s, err := New(urls, p.host)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// contains reports whether a request to produce has a record, which is not compressed.
func contains(text string) func(kmsg.Request) bool {
	return func(r kmsg.Request) bool {
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, part := range topic.Partitions {
				if bytes.Contains(part.Records, []byte(text)) {
					return true
				}
			}
		}
		return false
	}
}

// A record that brokers refuse is put aside, and no other; what is around it is in
// order, where the client has not cut what it was given.
func TestPoison(t *testing.T) {
	for _, err := range []*kerr.Error{kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedForMessageFormat} {
		uncut := false
		for range 20 {
			if uncut = poison(t, err); uncut {
				break
			}
		}
		if !uncut {
			t.Errorf("%v: 300 records were never sent in one request, but for the first", err)
		}
	}
}

// poison reports whether the client sent as one what it was given as one.
func poison(t *testing.T, err *kerr.Error) bool {
	p := start(t)
	c, tmpl := p.dial("compress=none")
	second, last := contains(`"record 1"`), contains(`"record 299"`)
	var whole atomic.Bool
	p.Fault(
		kfake.Fault{Keys: produces, Err: err, Count: -1, When: func(r kmsg.Request) bool {
			if second(r) && last(r) {
				whole.Store(true)
			}
			return contains(`"record 17"`)(r)
		}},
		kfake.Fault{Keys: produces, Err: err, Count: -1, When: last},
	)
	sent(t, c, tmpl, 0, 1, 300)
	uncut, refused := whole.Load(), c.Refused()
	if len(refused) != 2 || refused[0].ID != "s-k1-0000000000000011" || refused[1].ID != "s-k1-000000000000012b" || refused[0].Class != "invalid" || !bytes.Contains(refused[0].Encoded, []byte("record 17")) {
		t.Fatalf("refused: %+v", refused)
	}
	var got []string
	for _, r := range p.kept("logs") {
		got = append(got, header(r, "id"))
	}
	sorted := slices.Sorted(slices.Values(got))
	if len(got) != 298 || len(slices.Compact(sorted)) != 298 || uncut && !slices.IsSorted(got) {
		t.Errorf("%v: %d records, in order: %v", err, len(got), slices.IsSorted(got))
	}
	return uncut
}

// One record that is too large for the brokers is put aside, and the others go on
// in batches as large as before.
func TestTooLargeRecord(t *testing.T) {
	for _, limit := range []string{"max-message=50k", "max-message=1m"} {
		p := start(t)
		if limit == "max-message=1m" {
			p.Fault(kfake.Fault{Keys: produces, Err: kerr.MessageTooLarge, Count: -1, When: contains("xxxx")})
		}
		s := p.open("kafka://", "compress=none", limit, "max-line=0")
		c, tmpl := connect(t, s), s.Prepare(meta("k1"))
		var dst []byte
		for i := range 200 {
			r := record(i)
			if i == 77 {
				r.Line = bytes.Repeat([]byte("x"), 60<<10)
			}
			dst = c.Append(dst, tmpl, r)
		}
		if err := c.Send(t.Context(), dst); err != nil {
			t.Fatal(err)
		}
		if acked, err := sinktest.Wait(t, c, 1); acked != 1 || err != nil {
			t.Fatalf("acked %d, %v", acked, err)
		}
		refused := c.Refused()
		if len(refused) != 1 || refused[0].Class != "too-large" || refused[0].ID != "s-k1-000000000000004d" || !strings.Contains(refused[0].Reason, "max.message.bytes") {
			t.Fatalf("%s: refused: %d", limit, len(refused))
		}
		if n := len(p.kept("logs")); n != 199 {
			t.Errorf("%s: %d records", limit, n)
		}
		if s.chunk.Load() != 1<<30 {
			t.Errorf("%s: batches have %d bytes", limit, s.chunk.Load())
		}
	}
}

// Brokers that take only small batches get such.
func TestTooLargeBatches(t *testing.T) {
	p := start(t)
	large := func(r kmsg.Request) bool {
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, part := range topic.Partitions {
				if len(part.Records) > 40<<10 {
					return true
				}
			}
		}
		return false
	}
	faults := p.Fault(kfake.Fault{Keys: produces, Err: kerr.MessageTooLarge, Count: -1, When: large})
	s := p.open("kafka://", "compress=none")
	c, tmpl := connect(t, s), s.Prepare(meta("k1"))
	sent(t, c, tmpl, 0, 4, 500)
	if again := p.exactly("k1", 2000); again > 0 || len(c.Refused()) > 0 {
		t.Errorf("%d came again, some are refused", again)
	}
	if n := faults.Hits(); n == 0 || n > 12 {
		t.Errorf("%d batches were too large: it is not learnt", n)
	}
}

// One partition refuses for a while what the others take: nothing of that comes twice.
func TestPartOfABatch(t *testing.T) {
	p := start(t)
	s := p.open("kafka://", "compress=none")
	c, tmpls := connect(t, s), streams(s)
	if acked, err := mixed(t, c, tmpls, 1, 10); err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	p.Fault(kfake.Fault{Keys: produces, Err: kerr.InvalidRecord, Partitions: []int32{1}, Count: 3})
	var dst []byte
	for i := range 10 {
		for _, tmpl := range tmpls {
			dst = c.Append(dst, tmpl, record(10+i))
		}
	}
	if err := c.Send(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if acked, err := sinktest.Wait(t, c, 2); acked != 2 || err != nil || len(c.Refused()) > 0 {
		t.Fatalf("acked %d, %v", acked, err)
	}
	for i := range 6 {
		if again := p.exactly(fmt.Sprint("k", i), 20); again > 0 {
			t.Errorf("%d came again", again)
		}
	}
}
