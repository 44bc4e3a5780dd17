package parrot

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Nonsense runs servers, until the test ends, that say nothing, something else, or too
// little at a time, and returns their addresses by what they do.
func Nonsense(t testing.TB) map[string]string {
	t.Helper()
	const other = "SSH-2.0-OpenSSH\r\n\x00\x00\x00\x00\xff\xff\xff\xff"
	all := map[string]string{}
	for what, say := range map[string]func(net.Conn){
		"says nothing":        func(net.Conn) {},
		"says something else": func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat(other, 1<<12))) },
		"hangs up":            func(c net.Conn) { _ = c.Close() },
		"says too little at a time": func(c net.Conn) {
			for _, b := range []byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<10)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond) // which is how it is slow
			}
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		var mu sync.Mutex // guards conns
		var conns []net.Conn
		t.Cleanup(func() {
			_ = l.Close()
			mu.Lock()
			for _, c := range conns {
				_ = c.Close()
			}
			mu.Unlock()
			running.Wait()
		})
		running.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
				running.Go(func() { say(c) })
			}
		})
		all[what] = l.Addr().String()
	}
	return all
}
