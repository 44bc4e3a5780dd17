package kafka

import (
	"net/url"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func urls(t *testing.T, texts ...string) (all []*url.URL) {
	t.Helper()
	for _, text := range texts {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

func TestNew(t *testing.T) {
	for _, tc := range []struct{ url, err string }{
		{url: "kafka://host?topic=logs"},
		{url: "kafka+tls://u@host:9093?topic=logs.{compose_project|other}&sasl=plain&password-file=secret&tls-ca=ca.pem&compress=lz4&format=line&headers=id&create-topics=on&max-message=8m&max-line=1m"},
		{url: "kafka://u:p@host?topic={attr.team|x}-{host}"},
		{url: "kafka://host", err: "name the topic"},
		{url: "kafka://host/logs?topic=logs", err: "?topic="},
		{url: "kafka://host?topic=a%20b", err: "no \" \""},
		{url: "kafka://host?topic=a{b", err: "without its }"},
		{url: "kafka://host?topic={contaner_name}", err: "did you mean {container_name}?"},
		{url: "kafka://host?topic={host|a/b}", err: "no \"/\""},
		{url: "kafka://host?topic=..", err: "neither . nor .. is one"},
		{url: "kafka://host?topic=" + strings.Repeat("x", 250), err: "at most 249"},
		{url: "kafka://host?topic=logs&compress=brotli", err: "zstd, lz4"},
		{url: "kafka://host?topic=logs&format=xml", err: "json, line"},
		{url: "kafka://host?topic=logs&max-message=1g", err: "not within"},
		{url: "kafka://host?topic=logs&max-message=0", err: "not within"},
		{url: "kafka://host?topic=logs&sasl=plain", err: "want a user"},
		{url: "kafka://u@host?topic=logs&sasl=gssapi", err: "scram-sha-512, scram-sha-256, plain"},
		{url: "kafka://u@host?topic=logs", err: "no password"},
		{url: "kafka://u:secret@host?topic=logs&password-file=x", err: "without a password"},
		{url: "kafka://u@host?topic=logs&password-file=../x", err: "leads out"},
		{url: "kafka://host?topic=logs&tls-ca=ca.pem", err: "TLS is not spoken"},
		{url: "kafka://host?topik=logs", err: `did you mean "topic"?`},
	} {
		host := sinktest.Host()
		host.Config = t.TempDir()
		_, err := New(urls(t, tc.url), host)
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.url, err, tc.err)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("a password is told: %v", err)
		}
	}
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
		s, err := New(urls(t, "kafka://host?topic=logs&format="+format), sinktest.Host())
		if err != nil {
			t.Fatal(err)
		}
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
