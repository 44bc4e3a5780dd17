// Package web is what sinks that speak over HTTP have in common: the collector's
// URL and how we log in there, batches as request bodies, several requests under
// way, and what an answer means for a batch. It stands at the end of the data
// path, between a sink, which knows its own format only, and wire.
//
// An answer is one of these:
//
//   - the batch is taken (2xx). A Format may find out of the answer's text that
//     single records of it were not;
//   - the batch is refused for what is in it (400, 413, 422): it is sent again in
//     halves until the records that are meant are alone. They are put aside, the
//     others are delivered;
//   - the collector is busy (429, 503): ship.ErrBusy, with Retry-After;
//   - the collector is in trouble (5xx, the network): everything is sent again
//     later; where it is for one record, that one is found in the end (troubles);
//   - we are not welcome (401, 403, 404 and alike): the same, but slowly, with an
//     error that says what to do.
//
// A collector that refuses all that it is sent is set up wrongly, or out of order,
// and nothing is put aside then. So a record counts as refused only if others of the
// same batch were taken. Where they were not, or it is many, or the status is one of
// outages, too (500, where a protocol has that mean refused), the collector has to
// take once more what it took before (witness).
package web
