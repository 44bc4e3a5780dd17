// Package ship moves records from the spool to collectors: it reads windows
// of a stream, decodes and joins the records in them, has them processed as
// their container asks, puts each into a batch of the collector that the route
// names, and moves the stream's cursor on when the collector has acknowledged the
// batch, never before.
//
// Mostly a stream belongs to one lane, the way to its collector, and moves to
// another lane when that one's collector is down or pushes back (pressure.go), or
// in time slices if it is heavy (balance.go). A stream whose records go to several
// collectors belongs to a sorter, which hands them to lanes in parcels
// (sorter.go), and what is acknowledged of it is ranges (units.go).
//
// Sinks, routes and the spool do not know each other. They meet here, through
// the interfaces that this package declares.
package ship
