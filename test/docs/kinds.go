package docs

// Kinds are what a block can be, and who reads it. A language that only GitHub
// colours is not enough: something has to take the block as a reader would.
var Kinds = map[string]string{
	"sh":         "typed by a reader, and so by test/e2e/docs",
	"usage":      "how something is called, with words to be filled in",
	"text":       "what the block before it prints, or help",
	"record":     "what a collector gets of the container before it, by test/e2e/docs",
	"formula":    "nobody: it is for the eyes",
	"collectors": "the plugin, one list of collectors a line",
	"yaml":       "what its first keys say: docker dockline log check-config, docker-compose, promtool",
	"json":       "the engine, as its daemon.json",
	"rsyslog":    "rsyslogd", "rsyslog-cee": "rsyslogd",
	"syslog-ng":  "syslog-ng",
	"nats":       "nats-server",
	"ini":        "systemd-journald",
	"fluentd":    "Fluentd",
	"fluent-bit": "Fluent Bit",
	"logstash":   "Logstash",
	"vector":     "Vector",
	"properties": "Kafka",
}
