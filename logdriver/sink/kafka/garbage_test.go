package kafka

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

// What is no broker, or one that says too much, too slowly or nothing, ends in an error
// within the collector's patience.
func TestNoBroker(t *testing.T) {
	t.Parallel() // it waits most of the time
	framed := func(size uint32, text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, size), text...)
	}
	for name, tc := range map[string]struct {
		say   func(c net.Conn)
		wants string
	}{
		"another protocol": {func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, "invalid large response size"},
		"a large answer":   {func(c net.Conn) { _, _ = c.Write(framed(maxAnswer+1, "")) }, "invalid large response size"},
		"a negative one":   {func(c net.Conn) { _, _ = c.Write(framed(1<<31, "")) }, ""},
		"an empty one":     {func(c net.Conn) { _, _ = c.Write(framed(0, "")) }, ""},
		"zeros":            {func(c net.Conn) { _, _ = c.Write(framed(1<<10, strings.Repeat("\x00", 1<<10))) }, ""},
		"noise":            {func(c net.Conn) { _, _ = c.Write(framed(1<<10, strings.Repeat("\x00\x00\x00\x00\xff\x7f\x80", 1<<8))) }, ""},
		"half of one":      {func(c net.Conn) { _, _ = c.Write(framed(maxAnswer, "half")) }, ""},
		"nothing":          {func(net.Conn) {}, ""},
		"byte by byte": {func(c net.Conn) {
			for _, b := range framed(1<<20, strings.Repeat("\x00", 100)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond) // this is what is slow about it
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := sinktest.Serve(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := br.ReadByte(); err == nil {
					tc.say(c)
					_, _ = br.WriteTo(discard{}) // until the other side ends it
				}
			})
			u, err := url.Parse("kafka://" + addr + "?topic=logs&timeout=1s")
			if err != nil {
				t.Fatal(err)
			}
			s, err := New([]*url.URL{u}, sinktest.Host())
			if err != nil {
				t.Fatal(err)
			}
			err = try(t, s.(*cluster))
			if err == nil || !strings.Contains(err.Error(), tc.wants) {
				t.Errorf("%v, want %q", err, tc.wants)
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
