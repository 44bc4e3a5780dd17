package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dockline/dockline/internal/testleak"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// host is a host's file system, and what a plugin sees of it.
type host struct {
	t    *testing.T
	root string
	own  string
}

func newHost(t *testing.T) *host {
	h := &host{t, t.TempDir(), t.TempDir()}
	for _, dir := range []string{"etc", "run/systemd/resolve"} {
		if err := os.MkdirAll(filepath.Join(h.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// files is what the plugin sees, with the folder of the host that is mounted as
// the second.
func (h *host) files(linked string) Files {
	return Files{Etc: filepath.Join(h.root, "etc"), Linked: filepath.Join(h.root, linked), Own: h.own}
}

// put replaces a file, as well-behaved programs do.
func (h *host) put(name, content string) {
	h.t.Helper()
	path := filepath.Join(h.root, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) link(name, to string) {
	h.t.Helper()
	path := filepath.Join(h.root, name)
	_ = os.Remove(path)
	if err := os.Symlink(to, path); err != nil {
		h.t.Fatal(err)
	}
}

func TestResolvConfIsTheHosts(t *testing.T) {
	for _, tc := range []struct {
		name, link, linked string
		target             string // what the host has there
		want, unseen       string
	}{
		{"a file", "", "etc", "", "etc", ""},
		{"systemd-resolved, its folder mounted", "../run/systemd/resolve/stub-resolv.conf", "run/systemd/resolve", "run/systemd/resolve/stub-resolv.conf", "target", ""},
		{"a folder above it mounted", "../run/systemd/resolve/stub-resolv.conf", "run", "run/systemd/resolve/stub-resolv.conf", "target", ""},
		{"absolute link", "/run/systemd/resolve/resolv.conf", "run/systemd", "run/systemd/resolve/resolv.conf", "target", ""},
		{"not mounted", "../run/systemd/resolve/resolv.conf", "etc", "run/systemd/resolve/resolv.conf", "own", "/run/systemd/resolve/resolv.conf"},
		{"a link within /etc", "other/../resolv.real", "etc", "etc/resolv.real", "target", ""},
		{"a circle", "resolv.conf", "etc", "", "own", "/etc/resolv.conf"},
		{"nothing there", "gone", "etc", "", "own", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			if err := os.WriteFile(filepath.Join(h.own, "resolv.conf"), []byte("own"), 0o644); err != nil {
				t.Fatal(err)
			}
			if tc.target != "" {
				h.put(tc.target, "target")
			}
			if tc.link != "" {
				h.link("etc/resolv.conf", tc.link)
			} else {
				h.put("etc/resolv.conf", "etc")
			}
			data, unseen := h.files(tc.linked).resolvConf()
			if string(data) != tc.want || unseen != tc.unseen {
				t.Errorf("got %q and %q, want %q and %q", data, unseen, tc.want, tc.unseen)
			}
		})
	}
}

func TestHostsFile(t *testing.T) {
	file := []byte("127.0.0.1 localhost # c1\n\nnonsense x\n192.0.2.1\tC1.Example.com  c1\n::2 c1 # both\n192.0.2.3 c10\n")
	for name, want := range map[string]string{"c1": "[192.0.2.1 ::2]", "c1.example.COM.": "[192.0.2.1]", "x": "[]", "#": "[]", "c": "[]"} {
		if got := fmt.Sprint(inHosts(file, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// nameServer answers for some names, by UDP and TCP, and notes what it is asked.
type nameServer struct {
	mu    sync.Mutex
	names map[string]string // to addresses, parted by spaces; or "fail", "silent", "long"
	asked []string
}

// sockets are those of one name server.
type sockets struct {
	tcp net.Listener
	udp net.PacketConn
}

// listen opens the sockets of all servers at one port.
func listen(servers map[string]*nameServer) (port string, all map[string]sockets, err error) {
	port, all = "0", map[string]sockets{}
	defer func() {
		for _, s := range all {
			if err != nil {
				_ = s.tcp.Close()
			}
			if err != nil && s.udp != nil {
				_ = s.udp.Close()
			}
		}
	}()
	for addr := range servers {
		tcp, err := net.Listen("tcp", net.JoinHostPort(addr, port))
		if err != nil {
			return "", all, err
		}
		_, port, _ = net.SplitHostPort(tcp.Addr().String())
		all[addr] = sockets{tcp: tcp}
		udp, err := net.ListenPacket("udp", net.JoinHostPort(addr, port))
		if err != nil {
			return "", all, err
		}
		all[addr] = sockets{tcp, udp}
	}
	return port, all, nil
}

// newNameServers starts servers at addresses of the loopback network, all at the
// port that is returned.
func newNameServers(t *testing.T, servers map[string]*nameServer) (port string) {
	t.Helper()
	port, all, err := listen(servers)
	for errors.Is(err, syscall.EADDRINUSE) { // the kernel chose what is free for one socket, not for all
		port, all, err = listen(servers)
	}
	if err != nil {
		t.Fatal(err)
	}
	for addr, s := range servers {
		for _, server := range []*dns.Server{{Listener: all[addr].tcp, Handler: s}, {PacketConn: all[addr].udp, Handler: s}} {
			started, done := make(chan struct{}), make(chan error, 1)
			server.NotifyStartedFunc = func() { close(started) }
			go func() { done <- server.ActivateAndServe() }()
			<-started
			t.Cleanup(func() {
				if err := errors.Join(server.Shutdown(), <-done); err != nil {
					t.Error(err)
				}
			})
		}
	}
	return port
}

func (s *nameServer) set(name, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = what
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	name := q.Question[0].Name
	what, known := s.names[name]
	s.asked = append(s.asked, name)
	s.mu.Unlock()
	a := new(dns.Msg).SetReply(q)
	switch _, udp := w.LocalAddr().(*net.UDPAddr); {
	case what == "silent":
		return
	case what == "fail":
		a.Rcode = dns.RcodeServerFailure
	case !known:
		a.Rcode = dns.RcodeNameError
	case strings.HasPrefix(what, "long ") && udp:
		a.Truncated = true
	default:
		for f := range strings.FieldsSeq(strings.TrimPrefix(what, "long ")) {
			a.Answer = append(a.Answer, record(name, q.Question[0].Qtype, f)...)
		}
	}
	_ = w.WriteMsg(a)
}

// record returns what there is for an address, behind an alias, or nothing if it
// is of the other kind.
func record(name string, kind uint16, address string) []dns.RR {
	if kind == dns.TypeSRV || strings.HasPrefix(address, "srv:") {
		return service(name, kind, strings.TrimPrefix(address, "srv:"))
	}
	addr := netip.MustParseAddr(address)
	if addr.Is4() != (kind == dns.TypeA) {
		return nil
	}
	alias, err1 := dns.NewRR(name + " 5 IN CNAME real.test.")
	rr, err2 := dns.NewRR("real.test. 5 IN " + map[bool]string{true: "A ", false: "AAAA "}[addr.Is4()] + address)
	if err1 != nil || err2 != nil {
		panic(errors.Join(err1, err2))
	}
	return []dns.RR{alias, rr}
}

// service returns what there is for priority,weight,port,target.
func service(name string, kind uint16, what string) []dns.RR {
	if kind != dns.TypeSRV {
		return nil
	}
	rr, err := dns.NewRR(name + " 7 IN SRV " + strings.ReplaceAll(what, ",", " "))
	if err != nil {
		panic(err)
	}
	return []dns.RR{rr}
}

func (h *host) resolver(port string) *Resolver {
	r := New(h.files("etc"), slog.New(slog.DiscardHandler))
	r.port = port
	return r
}

func TestLookUp(t *testing.T) {
	first := &nameServer{names: map[string]string{"down.test.": "fail", "mute.test.": "silent", "all.test.": "fail"}}
	second := &nameServer{names: map[string]string{
		"c1.test.": "192.0.2.1 2001:db8::1 192.0.2.2", "down.test.": "192.0.2.3", "mute.test.": "192.0.2.4", "all.test.": "fail",
		"c1.site.test.": "192.0.2.5", "empty.test.": "", "big.test.": "long 192.0.2.6", "in.hosts.": "192.0.2.7",
	}}
	third := &nameServer{names: map[string]string{}}
	for name, what := range second.names {
		if name != "all.test." && name != "down.test." && name != "mute.test." {
			first.names[name] = what
		}
	}
	port := newNameServers(t, map[string]*nameServer{"127.0.0.1": first, "127.0.0.2": second, "127.0.0.3": third})
	h := newHost(t)
	h.put("etc/hosts", "192.0.2.99 in.hosts\n")
	h.put("etc/resolv.conf", "# ours\nnameserver 127.0.0.1\nnameserver 127.0.0.2\nsearch nowhere.test site.test\noptions timeout:1 attempts:1\n")
	for _, tc := range []struct{ name, want, err string }{
		{"192.0.2.77", "[192.0.2.77]", ""},
		{"::1", "[::1]", ""},
		{"in.hosts", "[192.0.2.99]", ""},
		{"c1.test", "[2001:db8::1 192.0.2.1 192.0.2.2]", ""},
		{"c1", "[192.0.2.5]", ""}, // by the search list
		{"c1.test.", "[2001:db8::1 192.0.2.1 192.0.2.2]", ""},
		{"down.test", "[192.0.2.3]", ""}, // from the second server
		{"mute.test", "[192.0.2.4]", ""},
		{"big.test", "[192.0.2.6]", ""}, // by TCP
		{"empty.test", "[]", "has no address"},
		{"missing.test", "[]", "NXDOMAIN"},
		{"all.test", "[]", "SERVFAIL"},
		{strings.Repeat("a", 64) + ".test", "[]", "not a domain name"},
	} {
		got, err := h.resolver(port).LookupNetIP(t.Context(), "ip", tc.name)
		if fmt.Sprint(got) != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, %v; want %s, %q", tc.name, got, err, tc.want, tc.err)
		}
	}
	if len(third.asked) > 0 {
		t.Errorf("a server that nobody named was asked for %q", third.asked)
	}
}

// Each look-up goes by what the files say then, and by nothing that came before.
func TestChangesCountAtOnce(t *testing.T) {
	one := &nameServer{names: map[string]string{"c1.test.": "192.0.2.1"}}
	two := &nameServer{names: map[string]string{"c1.test.": "192.0.2.2"}}
	port := newNameServers(t, map[string]*nameServer{"127.0.0.1": one, "127.0.0.2": two})
	h := newHost(t)
	r := h.resolver(port)
	look := func(want string) {
		t.Helper()
		got, err := r.LookupNetIP(t.Context(), "ip", "c1.test")
		if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr(want)}) {
			t.Errorf("got %v, %v; want %s", got, err, want)
		}
	}
	look("192.0.2.1") // without resolv.conf the host asks itself
	h.put("etc/resolv.conf", "nameserver 127.0.0.2\n")
	look("192.0.2.2")
	two.set("c1.test.", "192.0.2.3")
	look("192.0.2.3")
	h.put("etc/hosts", "192.0.2.4 c1.test\n")
	look("192.0.2.4")
	h.put("etc/hosts", "")
	look("192.0.2.3")
	h.link("etc/resolv.conf", "resolv.other")
	h.put("etc/resolv.other", "nameserver 127.0.0.1\n")
	look("192.0.2.1")
}

// A server that never answers does not keep its asker for longer than that waits,
// nor the next server from being asked in time.
func TestServersThatDoNotAnswer(t *testing.T) {
	mute := &nameServer{names: map[string]string{"c1.test.": "silent"}}
	port := newNameServers(t, map[string]*nameServer{"127.0.0.1": mute, "127.0.0.2": {names: map[string]string{"c1.test.": "192.0.2.1"}}})
	h := newHost(t)
	h.put("etc/resolv.conf", "nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:30\n")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	got, err := h.resolver(port).LookupNetIP(ctx, "ip", "c1.test")
	if err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	h.put("etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:3\n")
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		for len(mute.questions()) < 4 { // it waits in the middle of an answer
			time.Sleep(time.Millisecond) // nothing else tells
		}
		cancel()
	}()
	if _, err := h.resolver(port).LookupNetIP(ctx, "ip", "c1.test"); err == nil {
		t.Error("an answer that never came")
	}
}

func (s *nameServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Lasting answers: those who follow a name are told how long each holds.
func TestRecordsAndTheirLives(t *testing.T) {
	server := &nameServer{names: map[string]string{
		"c1.test.": "192.0.2.1 2001:db8::1", "_logs._tcp.test.": "srv:10,3,601,a.test. srv:20,1,602,b.test.", "_none._tcp.test.": "srv:0,0,0,.",
	}}
	port := newNameServers(t, map[string]*nameServer{"127.0.0.1": server})
	h := newHost(t)
	h.put("etc/hosts", "192.0.2.99 in.hosts\n")
	h.put("etc/resolv.conf", "nameserver 127.0.0.1\n")
	r := h.resolver(port)
	for name, want := range map[string]string{
		"c1.test": "[2001:db8::1 192.0.2.1] 5s <nil>", "in.hosts": fmt.Sprint("[192.0.2.99] ", HostsLife, " <nil>"),
	} {
		addrs, ttl, err := r.Addresses(t.Context(), name)
		if got := fmt.Sprint(addrs, " ", ttl, " ", err); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"_logs._tcp.test": "{a.test. 601 10 3} {b.test. 602 20 1} 7s", "_none._tcp.test": "7s",
	} {
		records, ttl, err := r.Services(t.Context(), name)
		var got []string
		for _, srv := range records {
			got = append(got, fmt.Sprint(*srv))
		}
		if said := strings.Join(append(got, ttl.String()), " "); err != nil || said != want {
			t.Errorf("%s: %s, %v, want %s", name, said, err, want)
		}
	}
	if _, _, err := r.Services(t.Context(), "_gone._tcp.test"); err == nil || !strings.Contains(err.Error(), "NXDOMAIN") {
		t.Errorf("a name that is not there: %v", err)
	}
}
