package ship

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/process"
)

// Meta is what is known of a stream, the same for all its records. It is
// written once, when the stream is opened, and never changed.
type Meta struct {
	Stream        string // stream id, unique for ever: the first part of every record id
	ContainerID   string // 64 hexadecimal digits
	ContainerName string // without the leading slash
	ImageID       string
	ImageName     string
	Command       string // entrypoint and arguments, joined by spaces
	Created       time.Time
	Host          string // name of the host that runs the engine
	Tag           string // the tag template, expanded
	Attrs         []Attr // labels, environment and constants that were asked for, sorted by key
	Engine        string // what the engine calls itself
	Version       string // of the plugin
	Workload      []Attr // what the container is part of, as fields
	Key           string // that the ranking of collectors is computed from: for clusters that have places of their own
	PerRecord     bool   // the key of each record is its own id instead

	Process *process.Spec // what is to be done to its records; nil: nothing. Sinks have no use for it
}

// Attr is one key and value attached to every record of a stream.
type Attr = field.Attr

// Fields returns all that is known of the stream but the attributes, under the
// names of field.All and in that order, without what is empty.
func (m *Meta) Fields() []Attr {
	created := ""
	if !m.Created.IsZero() {
		created = m.Created.UTC().Format(time.RFC3339Nano)
	}
	all := append([]Attr{
		{Key: field.Host, Value: m.Host}, {Key: field.Tag, Value: m.Tag},
		{Key: field.ContainerID, Value: m.ContainerID}, {Key: field.ContainerName, Value: m.ContainerName},
		{Key: field.ImageID, Value: m.ImageID}, {Key: field.ImageName, Value: m.ImageName},
		{Key: field.Command, Value: m.Command}, {Key: field.Created, Value: created},
		{Key: field.Engine, Value: m.Engine}, {Key: field.Version, Value: m.Version},
	}, m.Workload...)
	return slices.DeleteFunc(all, func(a Attr) bool { return a.Value == "" })
}

// Record is one line that a container wrote, with its partial chunks joined, or
// several that belong together, with newlines between them. Line and Fields are
// only valid until the call it was passed to returns.
type Record struct {
	Offset  uint64 // the second part of its id, by which records of a stream sort; see record.ID
	Time    int64  // nanoseconds since 1970, as the application says in the line, else as Stamped
	Stamped int64  // the same, as the engine stamped it
	Stderr  bool
	Cut     bool  // longer than may be: this is one piece of several, and not the last
	Piece   bool  // one of several that a record is sent in, the last of them too, see Limits
	Level   Level // that the application gives it
	Line    []byte
	Fields  []Field // that were lifted out of the line; of pieces, the first has those that there is room for
}

// Level is how bad a record is, as the application says; process.NoLevel where it
// does not.
type Level = process.Level

// Field is one value that was lifted out of a line. Names may be there several times.
type Field = process.Field

// Sink speaks one protocol to one collector. Its methods may be called from
// several goroutines.
type Sink interface {
	// Prepare encodes once what is the same for all records of a stream.
	Prepare(m *Meta) Template
	// Dial opens a connection, negotiating whatever the protocol asks for.
	// It looks the collector's name up anew each time.
	Dial(ctx context.Context) (Conn, error)
	// Limits says how the protocol wants its batches.
	Limits() Limits
}

// Resolver looks up the addresses of a sink's collector. A *net.Resolver is one.
// Network is "ip".
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Template turns the records of one stream into messages of one protocol,
// without the framing that depends on the connection. It is used by one
// goroutine at a time.
type Template interface {
	Append(dst []byte, r *Record) []byte
}

// Spreader is a Template for a cluster that has places of its own, such as
// partitions, and puts what has one key into one of them.
type Spreader interface {
	// Spread says how many places behind its own the key goes until the next call:
	// none, but where the key is heavy and this time slice is another place's.
	Spread(place int)
}

// Checker is a Sink that may find that it cannot tell where the records of some
// streams belong. What it finds is for whoever starts the container: Prepare has
// to do for each stream.
type Checker interface{ Check(m *Meta) error }

// Limits bounds what a connection is given.
type Limits struct {
	BatchBytes   int // a batch is sent when it holds as many bytes, or one window of a stream more
	BatchRecords int // or as many records, or one window more
	InFlight     int // how many batches may wait for their acknowledgement
	RecordBytes  int // a longer line is sent in pieces; 0 for no bound
	// MessageBytes bounds what a Template makes of a record, fields and all, without
	// the connection's framing, or what its Measure says of that; 0 for no bound.
	// What is longer is sent in pieces.
	MessageBytes int
}

// Measurer is a Template of which not each byte counts the same against
// MessageBytes.
type Measurer interface {
	// Measure returns how many bytes a record would count.
	Measure(r *Record) int
}

// Grower is a Measurer with which a byte of a field may count more than 8, as no
// byte of a line does.
type Grower interface {
	// Growth is how many it may count at most.
	Growth() int
}

// Conn is one connection to a collector. Append and Send are called by one
// goroutine, Wait by another, Close by either and more than once.
//
// A connection is used for one run of batches: after an error of Send or Wait
// it is closed, and what was not acknowledged is sent again on a new one. An
// error that wraps ErrBusy says that the collector is there and takes nothing for
// now.
type Conn interface {
	// Append frames one record for this connection and appends it to dst.
	// Everything that is appended is sent, in that order, by the next Send.
	Append(dst []byte, t Template, r *Record) []byte
	// Send hands one batch to the transport and returns when all of it is
	// written, or at ctx's end with an error. The connection is the owner of
	// batch until then.
	Send(ctx context.Context, batch []byte) error
	// Wait blocks until the collector has acknowledged more batches than seen
	// and returns how many it has acknowledged since Dial; batches are
	// acknowledged in the order in which they were sent. What acknowledged
	// means is the protocol's to say. An error ends the connection; batches
	// counted beside an error are acknowledged all the same.
	Wait(ctx context.Context, seen uint64) (acked uint64, err error)
	Close() error
}
