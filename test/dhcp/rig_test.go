// Package dhcp_test has addresses leased from real DHCP servers by the real
// network plugin, a process of its own on a station of a wire; the tests play the
// engine. Containers are links in one more station, the box.
package dhcp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness/dhcpd"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/wire"
)

var plugin string // the binary

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "dockline-net")
	if err == nil {
		plugin = filepath.Join(dir, "dockline-net")
		cmd := exec.Command("go", "build", "-o", plugin, "../../cmd/dockline-net")
		cmd.Stderr = os.Stderr
		err = cmd.Run()
	}
	if err == nil { // they mostly wait for leases to run out
		err = flag.Set("test.parallel", "16")
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the plugin:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// rig is a LAN with a DHCP server and a host with the plugin.
type rig struct {
	*testing.T
	lab          *lab.Lab
	lan          *wire.Wire
	site         *wire.Station // the server's
	host, box    *wire.Station
	server       *dhcpd.Server
	network      string
	pool         string
	prefix       netip.Prefix
	gateway      netip.Addr
	dir, sockets string
	env          []string // more of the plugin's, from its next start on
	cmd          *exec.Cmd
	done         chan error
	http         *http.Client
}

func settings() dhcpd.Settings {
	return dhcpd.Settings{
		Subnet: netip.MustParsePrefix("192.0.2.0/24"),
		First:  netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.199"),
		Router: netip.MustParseAddr("192.0.2.1"),
		Lease:  2 * time.Minute, Renew: 6 * time.Second, Rebind: 100 * time.Second,
	}
}

func newRig(t *testing.T, kind dhcpd.Kind, s dhcpd.Settings) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	r := &rig{T: t, network: strings.Repeat("a1", 32)}
	ctx := t.Context()
	var err error
	r.lab, err = lab.Open(lab.Base())
	r.must(err)
	t.Cleanup(func() { _ = r.lab.Close() })
	r.lan, err = wire.New(ctx, r.lab, "lan")
	r.must(err)
	r.site, err = r.lan.Foreign(ctx, "site", "192.0.2.1/24")
	r.must(err)
	r.host, err = r.lan.Foreign(ctx, "host")
	r.must(err)
	r.box, err = wire.NewStation(ctx, r.lab, "box")
	r.must(err)
	// One box stands for all containers: each of its links answers for its own.
	r.run(r.box, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_filter=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	r.server, err = dhcpd.New(r.lab, kind, r.site, s)
	r.must(err)
	r.must(r.server.Start(ctx))
	t.Cleanup(func() { _ = r.server.Stop() })
	r.dir = filepath.Join(r.lab.Dir, "state")
	r.sockets, err = r.lab.Outside()
	r.must(err)
	r.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.sockets, "net.sock"))
	}}}
	r.startPlugin()
	t.Cleanup(func() {
		r.killPlugin()
		if t.Failed() {
			r.tell(r.server.Log())
			r.tell(filepath.Join(r.lab.Dir, "plugin.log"))
		}
	})
	return r
}

// tell shows the end of a log.
func (r *rig) tell(name string) {
	text, _ := os.ReadFile(name)
	const most = 6000
	r.Logf("%s:\n%s", name, text[max(0, len(text)-most):])
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) run(s *wire.Station, name string, args ...string) string {
	r.Helper()
	out, err := s.Run(context.WithoutCancel(r.Context()), name, args...)
	r.must(err)
	return out
}

func (r *rig) startPlugin() {
	r.Helper()
	log, err := os.OpenFile(filepath.Join(r.lab.Dir, "plugin.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	r.must(err)
	defer log.Close()
	r.cmd = r.host.Command(context.WithoutCancel(r.Context()), plugin, "-socket", filepath.Join(r.sockets, "net.sock"), "-state", r.dir)
	r.cmd.Stdout, r.cmd.Stderr, r.cmd.Env = log, log, append(append(os.Environ(), "LOG_LEVEL=debug"), r.env...)
	r.must(r.cmd.Start())
	r.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) { done <- cmd.Wait() }(r.cmd, r.done)
}

func (r *rig) killPlugin() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		<-r.done
		r.cmd = nil
	}
}

// restartPlugin is what the engine does when the plugin dies.
func (r *rig) restartPlugin() {
	r.killPlugin()
	r.startPlugin()
}

// call is one of the engine's, which tries again while it reaches nobody.
func (r *rig) call(path string, body any) (reply map[string]any, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	err = proc.Await(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+path, bytes.NewReader(text))
		if err != nil {
			return err
		}
		res, err := r.http.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(&reply)
	})
	for _, key := range []string{"Err", "Error"} {
		if said, _ := reply[key].(string); said != "" && err == nil {
			err = fmt.Errorf("%s: %s", path, said)
		}
	}
	return reply, err
}

type m map[string]any

// makeNetwork plays network create. Without a subnet it is the server's.
func (r *rig) makeNetwork(subnet string, ipam m, options m) error {
	return r.makeNetworkAt(subnet, "", ipam, options)
}

func (r *rig) makeNetworkAt(subnet, gateway string, ipam m, options m) error {
	if _, err := r.call("IpamDriver.GetCapabilities", m{}); err != nil {
		return err
	}
	reply, err := r.call("IpamDriver.RequestPool", m{"AddressSpace": "dockline-local", "Pool": subnet, "Options": ipam})
	if err != nil {
		return err
	}
	r.pool = reply["PoolID"].(string)
	r.prefix = netip.MustParsePrefix(reply["Pool"].(string))
	reply, err = r.call("IpamDriver.RequestAddress", m{"PoolID": r.pool, "Address": gateway, "Options": m{"RequestAddressType": "com.docker.network.gateway"}})
	if err != nil {
		return err
	}
	r.gateway = netip.MustParsePrefix(reply["Address"].(string)).Addr()
	_, err = r.call("NetworkDriver.CreateNetwork", m{
		"NetworkID": r.network, "Options": m{"com.docker.network.generic": options},
		"IPv4Data": []m{{"AddressSpace": "dockline-local", "Pool": r.prefix.String(), "Gateway": reply["Address"]}},
	})
	return err
}

// lanNetwork is one on the LAN by macvlan.
func (r *rig) lanNetwork() {
	r.Helper()
	r.must(r.makeNetwork("", m{"backend": "dhcp", "parent": "eth0"}, m{"parent": "eth0"}))
}

func (r *rig) dropNetwork() {
	r.Helper()
	_, err1 := r.call("IpamDriver.ReleaseAddress", m{"PoolID": r.pool, "Address": r.gateway.String()})
	_, err2 := r.call("IpamDriver.ReleasePool", m{"PoolID": r.pool})
	_, err3 := r.call("NetworkDriver.DeleteNetwork", m{"NetworkID": r.network})
	r.must(errors.Join(err1, err2, err3))
}

// container is one as the engine has it.
type container struct {
	name string // the engine's from 29.0 on; "": it does not say
	mac  net.HardwareAddr
	ip   string            // --ip
	opts map[string]string // --driver-opt

	runs int
	id   string
	addr netip.Prefix
	link string
	join map[string]any
}

func (r *rig) start(c *container) error {
	options := m{"com.docker.network.endpoint.macaddress": c.mac.String()}
	if c.name != "" {
		options["com.docker.network.endpoint.name"] = c.name
	}
	reply, err := r.call("IpamDriver.RequestAddress", m{"PoolID": r.pool, "Address": c.ip, "Options": options})
	if err != nil {
		return err
	}
	c.addr = netip.MustParsePrefix(reply["Address"].(string))
	c.runs++
	c.id = fmt.Sprintf("%x%02x%s", []byte(c.mac), c.runs, strings.Repeat("e", 50))
	opts := m{"com.docker.network.endpoint.macaddress": base64.StdEncoding.EncodeToString(c.mac)}
	for key, value := range c.opts {
		opts[key] = value
	}
	if _, err := r.call("NetworkDriver.CreateEndpoint", m{
		"NetworkID": r.network, "EndpointID": c.id, "Options": opts,
		"Interface": m{"Address": c.addr.String(), "MacAddress": c.mac.String()},
	}); err != nil {
		return err
	}
	if c.join, err = r.call("NetworkDriver.Join", m{"NetworkID": r.network, "EndpointID": c.id, "SandboxKey": "/x", "Options": m{}}); err != nil {
		return err
	}
	c.link = c.join["InterfaceName"].(map[string]any)["SrcName"].(string)
	return r.sandbox(c)
}

func (r *rig) sandbox(c *container) error {
	ctx := context.WithoutCancel(r.Context())
	_, err1 := r.host.Run(ctx, "ip", "link", "set", c.link, "netns", r.box.NS)
	_, err2 := r.box.Run(ctx, "ip", "address", "add", c.addr.String(), "dev", c.link)
	_, err3 := r.box.Run(ctx, "ip", "link", "set", c.link, "up")
	return errors.Join(err1, err2, err3)
}

// stop plays the end of a container.
func (r *rig) stop(c *container) error {
	_, err1 := r.call("NetworkDriver.Leave", m{"NetworkID": r.network, "EndpointID": c.id})
	_, err2 := r.box.Run(context.WithoutCancel(r.Context()), "ip", "link", "delete", c.link)
	_, err3 := r.call("NetworkDriver.DeleteEndpoint", m{"NetworkID": r.network, "EndpointID": c.id})
	_, err4 := r.call("IpamDriver.ReleaseAddress", m{"PoolID": r.pool, "Address": c.addr.Addr().String()})
	return errors.Join(err1, err2, err3, err4)
}

// lease is one as the plugin shows it.
type lease struct {
	Address         netip.Addr
	MAC, State, Why string
	HostName        string `json:"host_name"`
	ClientID        string `json:"client_id"`
	Server          netip.Addr
	Ends            time.Time
}

// table is what the plugin says it has leased.
func (r *rig) table() map[netip.Addr]lease {
	r.Helper()
	var status struct {
		Networks []struct{ Leases []lease }
	}
	r.must(json.Unmarshal([]byte(r.asks("/status")), &status))
	all := map[netip.Addr]lease{}
	for _, n := range status.Networks {
		for _, l := range n.Leases {
			all[l.Address] = l
		}
	}
	return all
}

// asks is what the plugin tells operators.
func (r *rig) asks(path string) (text string) {
	r.Helper()
	admin := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.sockets, "admin.sock"))
	}}}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 20*time.Second)
	defer cancel()
	r.must(proc.Await(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://plugin"+path, nil)
		if err != nil {
			return err
		}
		res, err := admin.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		text = string(body)
		return err
	}))
	return text
}

// await waits for something that takes its time.
func (r *rig) await(within time.Duration, ready func() error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), within)
	defer cancel()
	r.must(proc.Await(ctx, func(context.Context) error { return ready() }))
}
