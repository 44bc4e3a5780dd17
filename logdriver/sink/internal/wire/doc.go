// Package wire is what sinks that speak over TCP have in common: checked
// collector URLs, dialling, counting acknowledged batches, and for protocols
// without an acknowledgement of their own, what the peer's TCP has
// acknowledged. It stands at the end of the data path, between a sink and the
// kernel.
package wire
