package dhcp

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dockline/dockline/netdriver/ipam"
)

func in(t *testing.T, do func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer func() { w.m.Close() }()
		do(w)
	})
}

// sleep lets time pass; what is due happens.
func sleep(d time.Duration) {
	time.Sleep(d) // a bubble's: it takes no time
	synctest.Wait()
}

func kindsOf(all []heard) (text string) {
	for _, h := range all {
		text += h.MessageType().String() + " "
	}
	return strings.TrimSpace(text)
}

func TestALeaseIsRenewedByItsServer(t *testing.T) {
	in(t, func(w *world) {
		a := w.must(container(webMAC, "web"))
		all := w.said()
		if got := kindsOf(all); got != "DISCOVER REQUEST" {
			t.Fatalf("sent %s", got)
		}
		for _, h := range all {
			if h.to.String() != broadcast.String() || h.by.String() != webMAC.String() || !h.IsBroadcast() || h.HostName() != "web" || string(h.Options.Get(dhcpv4.OptionClientIdentifier)) != "\x00dockline/inst/web" {
				t.Errorf("sent to %s by %s: %s", h.to, h.by, h.Summary())
			}
		}
		sleep(47 * time.Second)
		if got := w.said(); len(got) != 0 {
			t.Errorf("before T1: %s", kindsOf(got))
		}
		sleep(4 * time.Second)
		all = w.said()
		if len(all) != 1 || all[0].to.String() != siteMAC.String() || all[0].toIP != server || all[0].ClientIPAddr.String() != a.String() || all[0].IsBroadcast() ||
			all[0].RequestedIPAddress() != nil && !all[0].RequestedIPAddress().IsUnspecified() || all[0].ServerIdentifier() != nil {
			t.Fatalf("at T1: %v", all)
		}
		if l := w.lease(a); l.State != Bound || time.Until(l.Expires()) < 95*time.Second {
			t.Errorf("after T1: %+v", l)
		}
	})
}

func TestALeaseIsLostAndFound(t *testing.T) {
	in(t, func(w *world) {
		a := w.must(container(webMAC, ""))
		w.said()
		w.answers(silent)
		sleep(87 * time.Second)
		for _, h := range w.said() {
			if h.to.String() != siteMAC.String() {
				t.Errorf("at %s, before T2, sent to %s", h.at, h.to)
			}
		}
		sleep(12 * time.Second)
		rebinds, reboots := 0, 0
		for _, h := range w.said() {
			switch {
			case h.to.String() != broadcast.String():
				t.Errorf("at %s, after T2, sent to %s", h.at, h.to)
			case h.ClientIPAddr.IsUnspecified():
				reboots++
			default:
				rebinds++
			}
		}
		if rebinds == 0 || reboots == 0 {
			t.Errorf("after T2 %d REBINDs and %d questions with a broadcast as the answer", rebinds, reboots)
		}
		sleep(3 * time.Second)
		if l := w.lease(a); l.State != Lost || !strings.Contains(l.Why, "no server had renewed") {
			t.Errorf("after its end: %+v", l)
		}
		sleep(time.Hour)
		if n := len(w.said()); n < 40 || n > 100 {
			t.Errorf("in an hour asked %d times for what is lost", n)
		}
		w.answers(w.leasing(100*time.Second, nil))
		sleep(2 * time.Minute)
		if l := w.lease(a); l.State != Bound || l.Why != "" {
			t.Errorf("with a server again: %+v", l)
		}
	})
}

func TestARefusedLeaseIsAskedForAgain(t *testing.T) {
	in(t, func(w *world) {
		a := w.must(container(webMAC, ""))
		w.answers(nak)
		sleep(51 * time.Second)
		if l := w.lease(a); l.State != Lost || !strings.Contains(l.Why, "refused") {
			t.Errorf("after a NAK: %+v", l)
		}
		w.said()
		// It offers another address: that is left alone.
		w.answers(func(q *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
			if q.MessageType() == dhcpv4.MessageTypeRequest {
				return nak(q)
			}
			return w.leasing(100*time.Second, func(r *dhcpv4.DHCPv4) { r.YourIPAddr = net.IPv4(192, 0, 2, 77) })(q)
		})
		sleep(5 * time.Minute)
		for _, h := range w.said() {
			if r := h.RequestedIPAddress(); r.String() != a.String() {
				t.Errorf("asked for %s", r)
			}
		}
		w.answers(w.leasing(100*time.Second, nil))
		sleep(2 * time.Minute)
		if l := w.lease(a); l.State != Bound {
			t.Errorf("when it is leased again: %+v", l)
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	in(t, func(w *world) {
		w.answers(silent)
		_, err := w.claim(container(webMAC, ""))
		if err == nil || !strings.Contains(err.Error(), "no DHCP server answered on eth0") {
			t.Errorf("%v", err)
		}
		all := w.said()
		at := [][2]time.Duration{{0, 0}, {1500 * time.Millisecond, 2500 * time.Millisecond}, {5 * time.Second, 7 * time.Second}}
		if len(all) != len(at) {
			t.Fatalf("sent %s", kindsOf(all))
		}
		for i, h := range all {
			if h.at < at[i][0] || h.at > at[i][1] || h.TransactionID != all[0].TransactionID {
				t.Errorf("DISCOVER %d at %s", i, h.at)
			}
		}
		if len(w.m.Leases()) != 0 {
			t.Errorf("leases: %+v", w.m.Leases())
		}
	})
}

func TestAContainerComesBack(t *testing.T) {
	hardware := net.HardwareAddr{0x00, 0x16, 0x3e, 0, 0, 1}
	other := net.HardwareAddr{0x0a, 0, 0, 0, 0, 2}
	for name, c := range map[string]struct {
		first, then ipam.Claim
		pause       time.Duration
		same        bool
		sent        string
	}{
		"by its name":               {container(webMAC, "web"), container(other, "web"), time.Second, true, "REQUEST"},
		"by its hardware's MAC":     {container(hardware, ""), container(hardware, ""), 30 * time.Second, true, "REQUEST"},
		"by a MAC":                  {container(webMAC, ""), container(webMAC, ""), time.Second, true, "REQUEST"},
		"with another MAC":          {container(webMAC, ""), container(other, ""), time.Second, true, "RELEASE DISCOVER REQUEST"},
		"not another name":          {container(webMAC, "web"), container(other, "db"), time.Second, false, "DISCOVER REQUEST"},
		"not after the lease ended": {container(webMAC, "web"), container(webMAC, "web"), 2 * time.Minute, false, "DISCOVER REQUEST"},
		"with another MAC, late":    {container(webMAC, ""), container(other, ""), 61 * time.Second, false, "RELEASE DISCOVER REQUEST"},
		"by its name, with --ip":    {container(webMAC, "web"), container(webMAC, "web", netip.MustParseAddr("192.0.2.9")), time.Second, false, "RELEASE DISCOVER REQUEST"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				a := w.must(c.first)
				w.said()
				w.end(a)
				sleep(c.pause)
				b := w.must(c.then)
				if (a == b) != c.same {
					t.Errorf("had %s, got %s", a, b)
				}
				if got := kindsOf(w.said()); got != c.sent {
					t.Errorf("sent %s, want %s", got, c.sent)
				}
			})
		})
	}
}

func TestAnIdleLeaseIsGivenBack(t *testing.T) {
	in(t, func(w *world) {
		w.answers(w.leasing(time.Hour, nil))
		known, unknown := w.must(container(webMAC, "web")), w.must(container(net.HardwareAddr{0x0a, 0, 0, 0, 0, 2}, ""))
		w.said()
		w.end(known)
		w.end(unknown)
		sleep(keepUnknown + time.Second)
		if all := w.said(); kindsOf(all) != "RELEASE" || all[0].ClientIPAddr.String() != unknown.String() || all[0].to.String() != siteMAC.String() {
			t.Errorf("sent %s", kindsOf(all))
		}
		sleep(keepKnown)
		if all := w.said(); kindsOf(all) != "RELEASE" || all[0].ClientIPAddr.String() != known.String() {
			t.Errorf("sent %s", kindsOf(all))
		}
		if len(w.m.Leases()) != 0 || len(w.table) != 0 {
			t.Errorf("left: %+v", w.m.Leases())
		}
	})
}

func TestLeasesOutliveTheProcess(t *testing.T) {
	for boot, want := range map[string]State{"boot": Bound, "another": Idle} {
		in(t, func(w *world) {
			a := w.must(container(webMAC, "web"))
			w.said()
			w.m.Close()
			sleep(10 * time.Second)
			w.start(boot)
			if l := w.lease(a); l.State != want {
				t.Errorf("boot %q: %+v", boot, l)
			}
			if want == Bound {
				sleep(42 * time.Second)
				if got := kindsOf(w.said()); got != "REQUEST" {
					t.Errorf("sent %s", got)
				}
			}
		})
	}
}

func TestTheHostsLeaseStays(t *testing.T) {
	in(t, func(w *world) {
		a := w.must(ipam.Claim{Owner: ipam.Owner{Kind: ipam.Host}})
		delete(w.known, a)
		delete(w.ends, a)
		w.m.Close()
		w.start("another")
		for range 20 {
			sleep(strayEvery)
			w.m.sweep()
		}
		if l := w.lease(a); l.State != Bound {
			t.Errorf("after a reboot the host's lease is %+v", l)
		}
	})
}

func TestReplays(t *testing.T) {
	in(t, func(w *world) {
		a, lost := w.must(container(webMAC, "")), netip.MustParseAddr("192.0.2.50")
		w.said()
		w.end(a)
		w.ends[lost] = Holder{MAC: net.HardwareAddr{0x0a, 0, 0, 0, 0, 9}}
		w.answers(silent)
		for _, addr := range []netip.Addr{a, lost} {
			if got, err := w.claim(ipam.Claim{Candidates: []netip.Addr{addr}, Replay: true}); got != addr || err != nil {
				t.Errorf("replay of %s: %s, %v", addr, got, err)
			}
		}
		w.ends[lost] = Holder{MAC: net.HardwareAddr{0x0a, 0, 0, 0, 0, 9}}
		w.answers(w.leasing(100*time.Second, nil))
		sleep(time.Minute)
		for _, addr := range []netip.Addr{a, lost} {
			if l := w.lease(addr); l.State != Bound {
				t.Errorf("after the replay: %+v", l)
			}
		}
	})
}

func TestStraysAreGivenBack(t *testing.T) {
	in(t, func(w *world) {
		w.answers(w.leasing(time.Hour, nil))
		a, kept := w.must(container(webMAC, "")), w.must(container(net.HardwareAddr{0x0a, 0, 0, 0, 0, 2}, ""))
		delete(w.known, a)
		delete(w.ends, a)
		delete(w.known, kept) // but its endpoint is there
		for range 20 {
			sleep(strayEvery)
			w.m.sweep()
		}
		if w.lease(a).State != "" || w.lease(kept).State != Bound {
			t.Errorf("leases: %+v", w.m.Leases())
		}
	})
}

func TestAnAddressInUseIsDeclined(t *testing.T) {
	in(t, func(w *world) {
		w.others[netip.MustParseAddr("192.0.2.100")] = siteMAC
		a := w.must(container(webMAC, ""))
		if got := kindsOf(w.said()); got != "DISCOVER REQUEST DECLINE DISCOVER REQUEST" || a.String() != "192.0.2.101" {
			t.Errorf("%s: sent %s", a, got)
		}
	})
}

func TestAContainerMovesToAnotherHost(t *testing.T) {
	for name, move := range map[string]func(w *world, a netip.Addr){
		"heard": func(w *world, a netip.Addr) {
			c := client{MAC: webMAC, ID: append([]byte{hardwareID}, webMAC...)}
			w.port.in <- &Reply{c.message(dhcpv4.MessageTypeRequest, 0, requested(a)), webMAC}
		},
		"seen": func(w *world, a netip.Addr) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.others[a] = webMAC
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				w.answers(w.leasing(time.Hour, nil))
				a := w.must(container(webMAC, ""))
				w.said()
				w.end(a)
				move(w, a)
				sleep(keepKnown + time.Second)
				if got := w.said(); len(got) != 0 || len(w.m.Leases()) != 0 {
					t.Errorf("sent %s, left %v", kindsOf(got), w.m.Leases())
				}
			})
		})
	}
}

func TestAPoolLeaves(t *testing.T) {
	in(t, func(w *world) {
		for i := range 3 {
			w.must(container(net.HardwareAddr{0x0a, 0, 0, 0, 1, byte(i)}, ""))
		}
		w.said()
		if err := w.m.Leave(w.t.Context(), w.pool()); err != nil {
			t.Error(err)
		}
		if got := kindsOf(w.said()); got != "RELEASE RELEASE RELEASE" || len(w.table) != 0 {
			t.Errorf("sent %s", got)
		}
	})
}

func TestClaimsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		claim  ipam.Claim
		change func(*dhcpv4.DHCPv4)
		says   string
	}{
		"without a MAC":      {ipam.Claim{}, nil, "REQUIRE_MAC=on"},
		"of another subnet":  {container(webMAC, ""), func(r *dhcpv4.DHCPv4) { r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(16, 32))) }, "--subnet 192.0.0.0/16"},
		"another than named": {container(webMAC, "", netip.MustParseAddr("192.0.2.9")), func(r *dhcpv4.DHCPv4) { r.YourIPAddr = net.IPv4(192, 0, 2, 10) }, "offers 192.0.2.10 instead of 192.0.2.9"},
		"without a time":     {container(webMAC, ""), func(r *dhcpv4.DHCPv4) { r.Options.Del(dhcpv4.OptionIPAddressLeaseTime) }, "option 51"},
		"without a server":   {container(webMAC, ""), func(r *dhcpv4.DHCPv4) { r.Options.Del(dhcpv4.OptionServerIdentifier) }, "option 54"},
		"of no machine":      {container(webMAC, ""), func(r *dhcpv4.DHCPv4) { r.YourIPAddr = net.IPv4(224, 0, 0, 1) }, "none of a machine"},
		"a gateway":          {ipam.Claim{Owner: ipam.Owner{Kind: ipam.Gateway}}, nil, "--gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				w.answers(w.leasing(time.Minute, c.change))
				if a, err := w.claim(c.claim); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %s, %v; want %q", a, err, c.says)
				}
			})
		})
	}
}

func TestAFrameIsReadAsItWasWritten(t *testing.T) {
	r, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithHwAddr(webMAC))
	if err != nil {
		t.Fatal(err)
	}
	r.OpCode = dhcpv4.OpcodeBootReply
	f := frame(path{siteMAC, webMAC, server, netip.MustParseAddr("192.0.2.9")}, r.ToBytes())
	f[etherLen+ipLen+3] = clientPort
	got, err := parse(f)
	if err != nil || got.TransactionID != r.TransactionID || !bytes.Equal(got.From, siteMAC) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	r, _ := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithHwAddr(webMAC), dhcpv4.WithLeaseTime(60),
		dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 9)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 0, 0, 0), Mask: net.CIDRMask(8, 32)}, Router: server.AsSlice()})))
	r.OpCode = dhcpv4.OpcodeBootReply
	whole := frame(path{siteMAC, webMAC, server, server}, r.ToBytes())
	whole[etherLen+ipLen+3] = clientPort
	f.Add(whole)
	f.Add(whole[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		addr, terms, err := reading(r, time.Now())
		if err == nil && (!addr.Is4() || terms.Lasts < minLease || terms.Renew > terms.Rebind || terms.Rebind > terms.Lasts) {
			t.Errorf("%s on %+v", addr, terms)
		}
	})
}

func TestHostLabel(t *testing.T) {
	for name, want := range map[string]string{"web": "web", "my_app.1": "my-app-1", "-x-": "x", "ä": "", strings.Repeat("a", 80): strings.Repeat("a", 63)} {
		if got := HostLabel(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
