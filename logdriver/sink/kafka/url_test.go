package kafka

import (
	"net/url"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func newOne(u *url.URL, host sink.Host) (ship.Sink, error) { return New([]*url.URL{u}, host) }

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, newOne, []sinktest.URL{
		{URL: "kafka://host?topic=logs"},
		{URL: "kafka+tls://u@host:9093?topic=logs.{compose_project|other}&sasl=plain&password-file=secret&tls-ca=ca.pem&compress=lz4&format=line&headers=id&create-topics=on&max-message=8m&max-line=1m"},
		{URL: "kafka://u:p@host?topic={attr.team|x}-{host}"},
		{URL: "kafka://host", Err: "name the topic"},
		{URL: "kafka://host/logs?topic=logs", Err: "?topic="},
		{URL: "kafka://host?topic=a%20b", Err: "no \" \""},
		{URL: "kafka://host?topic=a{b", Err: "without its }"},
		{URL: "kafka://host?topic={contaner_name}", Err: "did you mean {container_name}?"},
		{URL: "kafka://host?topic={host|a/b}", Err: "no \"/\""},
		{URL: "kafka://host?topic=..", Err: "neither . nor .. is one"},
		{URL: "kafka://host?topic=" + strings.Repeat("x", 250), Err: "at most 249"},
		{URL: "kafka://host?topic=logs&compress=brotli", Err: "zstd, lz4"},
		{URL: "kafka://host?topic=logs&format=xml", Err: "json, line"},
		{URL: "kafka://host?topic=logs&max-message=1g", Err: "not within"},
		{URL: "kafka://host?topic=logs&max-message=0", Err: "not within"},
		{URL: "kafka://host?topic=logs&sasl=plain", Err: "want a user"},
		{URL: "kafka://u@host?topic=logs&sasl=gssapi", Err: "scram-sha-512, scram-sha-256, plain"},
		{URL: "kafka://u@host?topic=logs", Err: "no password"},
		{URL: "kafka://u:secret@host?topic=logs&password-file=x", Err: "without a password"},
		{URL: "kafka://u@host?topic=logs&password-file=../x", Err: "leads out"},
		{URL: "kafka://host?topic=logs&tls-ca=ca.pem", Err: "TLS is not spoken"},
		{URL: "kafka://host?topik=logs", Err: `did you mean "topic"?`},
	})
}

func TestTopic(t *testing.T) {
	full := &ship.Meta{Host: "h", ContainerName: "web/1 ü", Tag: "..", Attrs: []ship.Attr{{Key: "team", Value: "a b"}}, Workload: []ship.Attr{{Key: "compose_project", Value: "shop"}}}
	for _, tc := range []struct{ topic, want, missing string }{
		{"logs", "logs", ""},
		{"logs.{compose_project}", "logs.shop", ""},
		{"{attr.team}.{container_name}", "a_b.web_1__", ""},
		{"{compose_service|x}{attr.none|y}", "xy", ""},
		{"{attr.none}", "none", "labels="},
		{"a.{swarm_service}", "a.none", "{swarm_service|other}"},
		{"{swarm_service|}", "none", ""},
		{"{tag}", "none", ""},
	} {
		topic, err := parseTopic(tc.topic)
		if err != nil {
			t.Fatal(err)
		}
		if got := topic.of(full); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.topic, got, tc.want)
		}
		if err := topic.Check(full); (err != nil) != (tc.missing != "") || err != nil && !strings.Contains(err.Error(), tc.missing) {
			t.Errorf("%s: %v, want %q", tc.topic, err, tc.missing)
		}
	}
	long := &ship.Meta{Host: strings.Repeat("x", 300)}
	topic, _ := parseTopic("{host}")
	if got := topic.of(long); len(got) != maxTopic {
		t.Errorf("%d characters", len(got))
	}
}

func FuzzTopic(f *testing.F) {
	f.Add("logs.{compose_project|x}", "a/b")
	f.Add("{", "")
	f.Fuzz(func(t *testing.T, text, value string) {
		topic, err := parseTopic(text)
		if err != nil {
			return
		}
		got := topic.of(&ship.Meta{Host: value, Tag: value})
		if got == "" || got == "." || got == ".." || len(got) > maxTopic || strings.IndexFunc(got, unfit) >= 0 {
			t.Errorf("%q with %q: %q", text, value, got)
		}
	})
}

func TestStamp(t *testing.T) {
	const now = 1_700_000_000_123_456_789
	for _, tc := range []struct{ said, stamped, want int64 }{
		{now, 0, now}, {now, now + 59*60e9, now}, {now + 61*60e9, now, now}, {0, now, now}, {-5e9, 0, 0}, {-9e18, now, now},
	} {
		if got := stampOf(&ship.Record{Time: tc.said, Stamped: tc.stamped}).UnixMilli(); got != tc.want/1e6 {
			t.Errorf("%d, stamped %d: %d", tc.said, tc.stamped, got)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	for _, format := range []string{"json", "line"} {
		s := sinktest.Open(t, newOne, sinktest.Host(), "kafka://host?topic=logs&format="+format)
		c, err := newConn(s.(*cluster))
		if err != nil {
			t.Fatal(err)
		}
		tmpl, buf, r := s.Prepare(sinktest.Meta()), make([]byte, 0, 4096), record(1)
		if n := testing.AllocsPerRun(100, func() { buf = c.Append(buf[:0], tmpl, r) }); n != 0 {
			t.Errorf("%s: %v allocations", format, n)
		}
		_ = c.Close()
	}
}
