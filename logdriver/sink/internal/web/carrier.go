package web

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Carrier takes bodies to the collector in another way than HTTP/1.1's. Post is
// called by several goroutines.
type Carrier interface {
	// Post sends a body, which is the caller's again when it returns, and says what
	// became of it. An error is one of the connection.
	Post(ctx context.Context, body []byte) (*Reply, error)
	Close() error
}

// NewCarrier makes the carrier of one Conn. Requests have the headers; dial gives
// out the connection that there is, then new ones.
type NewCarrier func(header http.Header, dial func(context.Context) (net.Conn, error)) Carrier

// Reply is what a collector said to a request. With neither Err nor Class it has
// taken it.
type Reply struct {
	Body     []byte // of its answer
	Err      error  // why it takes nothing for now
	Class    string // it refuses what is in the request: the class of that
	Smaller  bool   // for its size
	Doubtful bool   // so it says in troubles of its own, too
	Said     string // why, for people
	After    time.Duration
}
