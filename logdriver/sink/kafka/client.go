package kafka

import (
	"context"
	"errors"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// metadataAge is how soon after it has asked for them the client may ask for the
// leaders of partitions again: that long may pass after a leader has moved.
const metadataAge = 500 * time.Millisecond

// maxAnswer bounds what a broker may say at once, in bytes: it is kept room for before
// it has come.
const maxAnswer = 32 << 20

// newClient makes the client of one connection. It connects when it is used.
func (c *cluster) newClient(l *link) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(c.seeds...), kgo.Dialer(l.dial), kgo.ClientID("dockline-log"),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(c.codec), kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
		kgo.ProducerBatchMaxBytes(int32(c.MaxMessage)), kgo.BrokerMaxWriteBytes(int32(max(c.MaxMessage+1<<20, 100<<20))), //nolint:gosec // both are bounded
		kgo.ManualFlushing(), kgo.MaxBufferedRecords(math.MaxInt32), kgo.MetadataMinAge(metadataAge), kgo.DisableClientMetrics(),
		kgo.BrokerMaxReadBytes(maxAnswer), kgo.FetchMaxBytes(maxAnswer), // of which the latter is only not to be more
		kgo.ProduceRequestTimeout(min(c.Timeout, wire.DefaultTimeout)), kgo.RequestTimeoutOverhead(c.Timeout),
	}
	var err error
	if l.secret, err = c.login.secret(c.Host); err != nil {
		return nil, err
	}
	if mechanism := c.login.with(l.secret); mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	if c.create {
		options = append(options, kgo.AllowAutoTopicCreation())
	}
	return kgo.NewClient(options...)
}

// partitioner puts records where every Kafka client does, or so many partitions
// behind that as the record says.
type partitioner struct{ kgo.Partitioner }

func (p partitioner) ForTopic(name string) kgo.TopicPartitioner {
	return shifted{p.Partitioner.ForTopic(name)}
}

type shifted struct{ kgo.TopicPartitioner }

func (s shifted) Partition(r *kgo.Record, n int) int {
	place := int(r.Partition) // as deliver has set it
	return (s.TopicPartitioner.Partition(r, n) + place) % n
}

// onePatience is for how long one of several brokers may leave us waiting for a
// connection: nobody asks the others meanwhile, and the client tries each twice.
const (
	onePatience   = 2 * time.Second
	leastPatience = 500 * time.Millisecond
)

// link opens the client's connections, and notes what is wrong with our
// certificates, or those of the brokers: of that the client tells in passing only.
type link struct {
	target   *wire.Target
	patience time.Duration                 // with one broker
	secret   string                        // that brokers are shown, and may repeat; "" for none
	distrust atomic.Pointer[wire.TLSError] // what was noted first
	refused  atomic.Pointer[error]         // why the last connection could not be opened
}

func (l *link) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	conn, err := l.target.At(addr).Dial(ctx)
	if err != nil {
		l.refused.Store(&err)
		l.note(err)
		return nil, err
	}
	l.refused.Store(nil)
	return noted{conn, l}, nil
}

func (l *link) note(err error) {
	var told *wire.TLSError
	if errors.As(err, &told) {
		l.distrust.CompareAndSwap(nil, told)
	}
}

// noted is a connection that notes such errors.
type noted struct {
	net.Conn
	link *link
}

func (n noted) Read(p []byte) (int, error) {
	read, err := n.Conn.Read(p)
	n.link.note(err)
	return read, err
}

func (n noted) Write(p []byte) (int, error) {
	written, err := n.Conn.Write(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		err = wire.Reason(n.Conn, err)
		n.link.note(err)
	}
	return written, err
}
