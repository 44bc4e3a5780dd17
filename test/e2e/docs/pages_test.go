package docs_test

// pages has what each page assumes and promises. One that has nothing to type or
// to read needs none.
var pages = map[string]page{
	"README.md":             readme,
	"docs/quickstart.md":    quickstart,
	"docs/cli.md":           commands,
	"docs/configuration.md": configuration,
	"docs/formats.md":       formats,
	"docs/log-driver.md":    logDriver,
	"docs/metrics.md":       metrics,

	"docs/addresses.md":       addresses,
	"docs/dhcp.md":            leases,
	"docs/network.md":         networks,
	"docs/operations.md":      operations,
	"docs/trace.md":           traces,
	"docs/troubleshooting.md": troubles,

	"docs/sinks/elasticsearch.md": elasticsearch,
	"docs/sinks/forward.md":       sinks,
	"docs/sinks/gelf.md":          sinks,
	"docs/sinks/journald.md":      journal,
	"docs/sinks/json.md":          sinks,
	"docs/sinks/kafka.md":         sinks,
	"docs/sinks/loki.md":          sinks,
	"docs/sinks/nats.md":          sinks,
	"docs/sinks/otlp.md":          sinks,
	"docs/sinks/relp.md":          sinks,
	"docs/sinks/syslog.md":        sinks,
}
