package dhcp

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// An engine that starts answers nobody before its last container is started or
// has failed.
func TestAHundredStartsWithoutAServer(t *testing.T) {
	in(t, func(w *world) {
		mac := func(i int) net.HardwareAddr { return net.HardwareAddr{0x0a, 0, 0, 1, 0, byte(i)} }
		for i := range 50 {
			w.end(w.must(container(mac(i), fmt.Sprint("c", i))))
		}
		w.answers(silent)
		begin := time.Now()
		for i := range 100 {
			a, err := w.claim(container(mac(i), fmt.Sprint("c", i)))
			if knownOne := i < 50; knownOne != (err == nil) {
				t.Errorf("container %d: %v, %v", i, a, err)
			}
		}
		if took := time.Since(begin); took > 90*time.Second {
			t.Errorf("a hundred starts took %v", took)
		}
	})
}

// A server that is back, and looks for three seconds whether an address is in use
// before it offers it, is found although nobody waits for that long.
func TestAServerThatComesBackSlowly(t *testing.T) {
	in(t, func(w *world) {
		w.answers(silent)
		if _, err := w.claim(container(webMAC, "web")); err == nil {
			t.Fatal("leased by nobody")
		}
		answer, slow := w.leasing(100*time.Second, nil), 3*time.Second
		w.answers(func(q *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
			if q.MessageType() != dhcpv4.MessageTypeDiscover {
				return answer(q)
			}
			port, r := w.port, answer(q)
			time.AfterFunc(slow, func() { port.in <- &Reply{r, siteMAC} })
			return nil
		})
		begin := time.Now()
		if _, err := w.claim(container(webMAC, "web")); err == nil || time.Since(begin) > time.Second {
			t.Errorf("after a start without a server another one waited for %v: %v", time.Since(begin), err)
		}
		sleep(slow)
		w.must(container(webMAC, "web"))
	})
}
