// Package netdriver is the network plugin, in the folders below it.
//
//	engine ── NetworkDriver.* ──▶ network ──▶ kernel (netlink)
//	   │                     └──▶ endpoint ─▶   ▲
//	   └───── IpamDriver.* ─────▶ ipam          │
//	                               │         reconcile ──▶ network, endpoint
//	                               ▼
//	       network, endpoint, ipam ──▶ state (bbolt; each owns its tables)
//
//	ipam ──▶ dhcp, as one of its backends (packet sockets on the networks' wires)
//	admin ──▶ all of these
//	ipam/etcd ──▶ ipam, as one of its backends
//	watch ──▶ network, endpoint, kernel, neighbour (ARP and ND on packet sockets)
//	probe ──▶ watch, by whose ports it asks gateways and peers time and again
//	trace ──▶ kernel, neighbour, in the process of who asks; admin tells it what is meant
//
// Dependencies point to the right and down. ipam knows neither kernel nor
// network nor the wire: what it asks of them it is given as functions, and by
// watch as an ipam.Wire.
//
// What decides, by what the thing is:
//
//   - a network: our state. The engine says it once.
//   - an endpoint: the engine, and where its links are. Ours is a journal of
//     what to clear away; what it lost is found in the sandboxes.
//   - a link: its alias.
//
// A crash can come between any two changes: internal/failpoint stands behind
// each, and test/cmd/crashnet dies at all of them.
//
// # Lock order
//
// A lock is taken only while those before it, or none, are held:
//
//  0. reconcile.Reconciler.mu: one reconcile at a time
//  1. network.Manager.change: one network is made, removed or restored at a time
//  2. endpoint turns: what concerns one endpoint happens in turn; an endpoint
//     whose network's links are missing asks for network.Manager.change from
//     within, so nothing that holds change may ask for a turn
//  3. network.Manager.routes: what the host has routes to; network.Manager.passing:
//     what passes the firewall. Neither is taken while the other is held
//  4. ipam.Manager.mu; before it, and never while it is held, watch.Manager.syncing
//     A Backend's View is called with it held and takes the backend's own mutex,
//     a leaf; its other calls wait for a network and come without
//  5. network.Manager.mu, endpoint.Manager.mu, probe.Manager.mu, and the mutex of
//     each wire in watch: leaves, held over no call but the note of an event
//
// The first two are taken in either order by different callers only as said
// there: while change is held no endpoint is touched; Delete of a network drops
// its endpoints afterwards.
package netdriver
