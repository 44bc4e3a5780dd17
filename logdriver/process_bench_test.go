package logdriver

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	stock "github.com/docker/docker/api/types/plugins/logdriver"

	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/jsonl"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

// BenchmarkRecord measures one record of 120 bytes from its frame to an encoded
// message with all metadata, plain and with each feature: decode, join, process,
// encode. What a feature costs is the difference to plain, in the same run.
func BenchmarkRecord(b *testing.B) {
	text := []byte("2026-01-04T12:00:00.000Z INFO shop.orders order 4711 of customer 42 was taken and will be sent to the store in Hamburg,.")
	object := []byte(`{"level":"info","ts":1767528000.5,"msg":"order was taken","order":4711,"customer":42,"store":"Hamburg","took":0.0123,"x":true}`)
	pairs := []byte(`level=info ts=2026-01-04T12:00:00Z msg="order was taken" order=4711 customer=42 store=Hamburg took=0.0123 retry=false ok=1`)
	for _, c := range []struct {
		name, opts string
		line       []byte
	}{
		{"plain", "", text},
		{"multiline=java", "multiline=java", text},
		{"multiline=auto", "multiline=auto", text},
		{"multiline-start", `multiline-start=^\d{4}-`, text},
		{"include literal", "include=shop", text},
		{"include class", `include=order \d+ of`, text},
		{"exclude literal", "exclude=/healthz", text},
		{"exclude class", `exclude=order \d+ of nobody`, text},
		{"rate", "rate=1000000", text},
		{"rate-mode=delay", "rate=1000000;rate-mode=delay", text},
		{"redact=email", "redact=email", text},
		{"redact=bearer", "redact=bearer", text},
		{"redact=cloud-keys", "redact=cloud-keys", text},
		{"redact=url-passwords", "redact=url-passwords", text},
		{"redact=all", "redact=all", text},
		{"redact.NAME", `redact.card=\b\d{4}-\d{4}-\d{4}-\d{4}\b`, text},
		{"utf8=escape", "utf8=escape", text},
		{"max-line", "max-line=1k", text},
		{"json unparsed", "", object},
		{"parse=json", "parse=json", object},
		{"parse=json, parse-keep", "parse=json;parse-keep=true", object},
		{"parse=json, redact=all", "parse=json;redact=all", object},
		{"parse=logfmt", "parse=logfmt", pairs},
		{"parse=logfmt, parse-keep", "parse=logfmt;parse-keep=true", pairs},
		{"parse=auto of text", "parse=auto", text},
	} {
		for _, to := range []struct {
			name string
			tmpl ship.Template
		}{{"rfc5424", template(b, "syslog+tcp")}, {"json", template(b, "json+tcp")}} {
			b.Run(c.name+"/"+to.name, func(b *testing.B) { benchRecord(b, c.opts, c.line, to.tmpl) })
		}
	}
}

func template(b *testing.B, scheme string) ship.Template {
	b.Helper()
	u, err := url.Parse(scheme + "://127.0.0.1:1")
	if err != nil {
		b.Fatal(err)
	}
	m := &ship.Meta{
		Stream: "0123456789abcdef", ContainerID: strings.Repeat("0123456789abcdef", 4), ContainerName: "shop-orders-1", Host: "host-1", Tag: "shop-orders-1",
		ImageID: "sha256:" + strings.Repeat("fedcba9876543210", 4), ImageName: "registry.example/shop/orders:1.2.3", Command: "/bin/orders -p 80",
		Attrs: []ship.Attr{{Key: "com.example.team", Value: "payments"}, {Key: "com.example.tier", Value: "gold"}},
	}
	var s ship.Sink
	if scheme == "json+tcp" {
		s, err = jsonl.New(u, sink.Host{})
	} else {
		s, err = syslog.New(u, sink.Host{})
	}
	if err != nil {
		b.Fatal(err)
	}
	return s.Prepare(m)
}

func benchRecord(b *testing.B, opts string, line []byte, tmpl ship.Template) {
	given := map[string]string{}
	for opt := range strings.SplitSeq(opts, ";") {
		if k, v, ok := strings.Cut(opt, "="); ok {
			given[k] = v
		}
	}
	spec, err := process.Parse("log-opt", given)
	if err != nil {
		b.Fatal(err)
	}
	var frame bytes.Buffer
	if err := stock.NewLogEntryEncoder(&frame).Encode(&stock.LogEntry{Source: "stdout", TimeNano: 1767528000e9, Line: line}); err != nil {
		b.Fatal(err)
	}
	var stats process.Stats
	state, join := spec.New(&stats), record.Joiner{Max: 1 << 20}
	var rec ship.Record
	var entry record.Entry
	buf, got := make([]byte, 0, 4096), 0
	encode := func(r *process.Record) {
		rec = ship.Record{Offset: r.Offset, Time: r.Time, Stamped: r.Stamped, Stderr: r.Stderr, Cut: r.Cut, Level: r.Level, Line: r.Line, Fields: r.Fields}
		buf = tmpl.Append(buf[:0], &rec)
		got++
	}
	out := func(j *record.Joined) {
		rec = ship.Record{Offset: j.Offset, Time: j.Time, Stamped: j.Time, Stderr: j.Stderr, Cut: j.Cut, Line: j.Line}
		buf = tmpl.Append(buf[:0], &rec)
		got++
	}
	if state != nil {
		out = func(j *record.Joined) { state.Add(j, encode) }
	}
	offset := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		payload, n, err := record.Next(frame.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		if err := entry.Decode(payload); err != nil {
			b.Fatal(err)
		}
		entry.Time += int64(offset)
		join.Add(offset, &entry, out)
		offset += uint64(n)
	}
	if got == 0 {
		b.Fatal("nothing came out")
	}
}
