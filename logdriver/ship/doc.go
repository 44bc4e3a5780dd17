// Package ship moves records from the spool to collectors: it reads windows
// of a stream, decodes and joins the records in them, puts each into a batch
// of the collector that the route names, and moves the stream's cursor on when
// the collector has acknowledged the batch, never before.
//
// Sinks, routes and the spool do not know each other. They meet here, through
// the interfaces that this package declares.
package ship
