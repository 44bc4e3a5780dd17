// Package logdriver is dockline-log, the log driver plugin: it puts the parts
// of the data path together.
//
//	engine ──FIFO──▶ stream ──splice──▶ spool ──▶ ship ──▶ sink ──▶ collector
//	   ▲                                 │         ▲
//	   └───────────── readlogs ◀─────────┘         └── route ◀── discover
//
// Packages in the order of the path: engine takes the engine's calls, container
// reads what they say, stream moves bytes from the FIFOs, spool keeps them (place
// knows where), record knows what they mean, process does to records what their
// container's options ask for, ship moves records to collectors through the sinks,
// route ranks collectors, discover says which there are, resolve where they are.
// field names what goes with every record. history remembers which collectors hold
// whose records, poison what collectors refused. readlogs answers `docker logs`.
// Each may use those before it, none those behind it; sinks, route, spool and record
// do not know each other (test/arch holds the tree to this).
//
// Beside the path stands what says where records go. config says which containers'
// records are for which pools, and reload which version of that is in force. pool
// makes what ship ships to of definitions, sources, ranking and sinks. dispatch sends
// each container's stream to its pools. admin shows all of it to operators. None on
// the path knows these.
//
// This package wires them, starts and stops containers, and says which driver stands
// in for it: rescue after a downgrade, refusal where the spool is out of reach.
//
// # Lock order
//
// A lock is taken only while holding locks that stand before it here:
//
//	Plugin.mu         whether the plugin goes on; no start or stop takes it
//	Configuration.offers: reload: one version of the configuration at a time
//	Dispatcher.calls  dispatch: one lock for each container: its starts and stops, and where its stream goes
//	Pumps.mu          stream: which FIFOs are open; never held over a file
//	Pools.tell        pool: changes of pools, on their way to the shipper
//	Shipper.mu        ship: which streams go where; Ended is called under it
//	goings.mu         dispatch: which streams go where; Retired is called under Shipper.mu
//	Pools.mu          pool: which pools containers use, and who is in them
//	Configuration.mu  reload: what the configuration says
//	former.mu         dispatch: what it said
//	pool.mu           ship: a pool's collectors and whose stream is whose
//	Stream.wmu        spool: one writer to a stream's segment
//	Spool.mu          spool: which streams there are
//	Stream.mu         spool: what a stream consists of; never held over a write of records or cursors
//	cursor.mu         spool: one writer to a cursor's file
//	lane.mu           ship: a collector's queues; watchers run under Stream.mu
//	units.mu          ship: what is acknowledged of a stream whose records go to several collectors
//	sorter.news       ship: what such streams' reader is to hear; nothing else is locked under it
//	History.mu        history: all of it; held over no write, and with no other
//
// In rescue: Driver.mu, or Rescued.mu, before Rescue.mu.
//
// Everything else in ship belongs to the goroutine of one lane and is handed
// from lane to lane through their queues. A stream whose records go to several
// collectors belongs to the sorter of its pool, and its records, in parcels, to
// lanes.
package logdriver
