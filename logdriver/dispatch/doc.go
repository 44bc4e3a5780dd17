// Package dispatch sends each container's stream to the pools that its options and
// the configuration name. It plans where a stream is to go, gives each pool a cursor
// in it, hands it to ship, and does so anew when the configuration changes: a pool
// that comes begins where the others are, and one that goes gets what is owed to it,
// or is given up when it acknowledges nothing for long enough.
package dispatch
