package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/test/harness/program"
)

// What is done to a bridge with many endpoints, for the reconcile to mend.
const (
	bridgeGone = "bridge deleted under all endpoints"
	portsOut   = "all ports taken out"
	onePort    = "one port taken out"
)

const samples = 200

// endpointTimes is how long the calls of an endpoint's life took.
type endpointTimes struct {
	there                   int // endpoints that there were already
	mode                    string
	create, join, both, end *histogram
	bare                    *histogram // of the kernel alone, see caller.bare
}

// caller plays the engine.
type caller struct {
	http  *http.Client
	dir   *os.File        // the plugin's socket is in
	lib   *netlink.Handle // in the host's network
	boxes []netns.NsHandle
	made  int

	parentIndex, bridgeIndex int
}

// protocol measures through the plugin's socket what the engine waits for, at
// some numbers of endpoints that each have a sandbox of their own.
func (b *bench) protocol(ctx context.Context) error {
	c, err := b.caller(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	for _, mode := range []struct{ name, subnet, options string }{
		{"macvlan", "10.64.0.0/16", `"parent":"eth0"`},
		{"bridge", "10.65.0.0/16", `"mode":"bridge"`},
	} {
		body := fmt.Sprintf(`{"NetworkID":%q,"Options":{"com.docker.network.generic":{%s}},"IPv4Data":[{"AddressSpace":"x","Pool":%q}],"IPv6Data":[]}`, mode.name, mode.options, mode.subnet)
		if err := c.call(ctx, "NetworkDriver.CreateNetwork", body); err != nil {
			return err
		}
		for there := 0; ; there++ {
			if there == 1 || there == 100 || there == b.endpoints {
				times, err := c.measure(ctx, mode.name, there)
				if err != nil {
					return err
				}
				b.endpoint = append(b.endpoint, times)
				program.Print("%s, %d endpoints: CreateEndpoint and Join p50 %.2f ms, p99 %.2f; the kernel alone %.2f and %.2f", mode.name, there, times.both.at(0.5), times.both.at(0.99), times.bare.at(0.5), times.bare.at(0.99))
			}
			if there == b.endpoints {
				break
			}
			if err := c.one(ctx, mode.name, c.id(), nil, true); err != nil {
				return err
			}
		}
	}
	return b.reconcile(ctx, c)
}

func (b *bench) caller(ctx context.Context) (*caller, error) {
	engine := b.host.Engine
	id, err := engine.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", plugin)
	if err != nil {
		return nil, err
	}
	// The path is longer than that of a socket may be.
	dir, err := os.Open(filepath.Join(fmt.Sprintf("/proc/%d/root/run/docker/plugins", engine.PID()), id))
	if err != nil {
		return nil, fmt.Errorf("find the plugin's socket: %w", err)
	}
	socket := fmt.Sprintf("/proc/self/fd/%d/%s.sock", dir.Fd(), plugin)
	c := &caller{dir: dir, http: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}}
	err = b.host.Do(func() (err error) {
		c.lib, err = netlink.NewHandle()
		return err
	})
	return c, err
}

func (c *caller) close() {
	c.http.CloseIdleConnections()
	c.lib.Close()
	_ = c.dir.Close()
	for _, ns := range c.boxes {
		_ = ns.Close()
	}
}

func (c *caller) id() string {
	c.made++
	return fmt.Sprintf("bench%d", c.made)
}

func (c *caller) call(ctx context.Context, path, body string) error {
	_, err := c.ask(ctx, path, body)
	return err
}

func (c *caller) ask(ctx context.Context, path, body string) (reply map[string]any, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if text, _ := reply["Err"].(string); text != "" {
		return nil, fmt.Errorf("%s: %s", path, text)
	}
	return reply, nil
}

// one makes an endpoint and, if it is to stay, puts its link into a sandbox of
// its own, as the engine does.
func (c *caller) one(ctx context.Context, network, id string, times *endpointTimes, stay bool) error {
	var n int
	_, _ = fmt.Sscanf(id, "bench%d", &n)
	subnet := map[string]int{"macvlan": 64, "bridge": 65}[network]
	begin := time.Now()
	body := fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"Interface":{"Address":"10.%d.%d.%d/16"},"Options":{}}`, network, id, subnet, 1+n/250, 1+n%250)
	if err := c.call(ctx, "NetworkDriver.CreateEndpoint", body); err != nil {
		return err
	}
	created := time.Now()
	reply, err := c.ask(ctx, "NetworkDriver.Join", fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"SandboxKey":"/x","Options":{}}`, network, id))
	if err != nil {
		return err
	}
	if times != nil {
		times.create.add(created.Sub(begin))
		times.join.add(time.Since(created))
		times.both.add(time.Since(begin))
	}
	if !stay {
		return nil
	}
	name, _ := reply["InterfaceName"].(map[string]any)["SrcName"].(string)
	return c.sandbox(name)
}

func (c *caller) sandbox(link string) error {
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			c.boxes = append(c.boxes, ns)
		}
		made <- err
	}()
	if err := <-made; err != nil {
		return fmt.Errorf("make a sandbox: %w", err)
	}
	box := c.boxes[len(c.boxes)-1]
	l, err := c.lib.LinkByName(link)
	if err == nil {
		err = c.lib.LinkSetNsFd(l, int(box))
	}
	if err != nil {
		return fmt.Errorf("move %s into its sandbox: %w", link, err)
	}
	inside, err := netlink.NewHandleAt(box)
	if err != nil {
		return fmt.Errorf("enter a sandbox: %w", err)
	}
	defer inside.Close()
	if l, err = inside.LinkByName(link); err == nil {
		err = inside.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("bring %s up in its sandbox: %w", link, err)
	}
	return nil
}

// measure makes and removes endpoints beside those that there are.
func (c *caller) measure(ctx context.Context, network string, there int) (endpointTimes, error) {
	times := endpointTimes{there: there, mode: network, create: &histogram{}, join: &histogram{}, both: &histogram{}, end: &histogram{}, bare: &histogram{}}
	if err := c.find(); err != nil {
		return times, err
	}
	for range samples {
		if err := c.bare(network, times.bare); err != nil {
			return times, err
		}
		id := c.id()
		if err := c.one(ctx, network, id, &times, false); err != nil {
			return times, err
		}
		begin := time.Now()
		ids := fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q}`, network, id)
		for _, path := range []string{"NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint"} {
			if err := c.call(ctx, path, ids); err != nil {
				return times, err
			}
		}
		times.end.add(time.Since(begin))
	}
	return times, nil
}

// find finds the links that those of endpoints are on.
func (c *caller) find() error {
	parent, err := c.lib.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find the parent: %w", err)
	}
	c.parentIndex, c.bridgeIndex = parent.Attrs().Index, c.bridge().Attrs().Index
	return nil
}

var ours = regexp.MustCompile(`^dlh-`)

// reconcile damages a bridge with all its endpoints and waits until it is whole.
func (b *bench) reconcile(ctx context.Context, c *caller) error {
	for range 3 {
		bare, err := barePorts(b.endpoints)
		if err != nil {
			return err
		}
		b.bareRepair = append(b.bareRepair, bare)
		for what, damage := range map[string]func() error{
			bridgeGone: func() error { return c.lib.LinkDel(c.bridge()) },
			portsOut:   func() error { return c.takeOut(b.endpoints) },
			onePort:    func() error { return c.takeOut(1) },
		} {
			// Nothing says that the plugin has had its rest after what it was woken for.
			time.Sleep(5 * time.Second)
			begin := time.Now() // damage and mending overlap
			if err := damage(); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			if err := c.awaitPorts(ctx, b.endpoints); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			b.reconciles[what] = append(b.reconciles[what], since(begin)*1000)
			program.Print("reconcile, %s: %.0f ms", what, since(begin)*1000)
		}
	}
	return nil
}

// bridge is the one of the isolated network.
func (c *caller) bridge() netlink.Link {
	links, err := c.lib.LinkList()
	if err != nil {
		return &netlink.Bridge{}
	}
	for _, l := range links {
		if l.Type() == "bridge" && strings.HasSuffix(l.Attrs().Alias, ":network:bridge") {
			return l
		}
	}
	return &netlink.Bridge{}
}

func (c *caller) takeOut(n int) error {
	links, err := c.lib.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if n > 0 && ours.MatchString(l.Attrs().Name) {
			n--
			if err := c.lib.LinkSetNoMaster(l); err != nil {
				return fmt.Errorf("take a port out: %w", err)
			}
		}
	}
	return nil
}

// awaitPorts polls the kernel until all endpoints are ports again, up.
func (c *caller) awaitPorts(ctx context.Context, want int) error {
	for {
		links, err := c.lib.LinkList()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list links: %w", err)
		}
		ports := 0
		for _, l := range links {
			a := l.Attrs()
			if ours.MatchString(a.Name) && a.MasterIndex != 0 && a.Flags&net.FlagUp != 0 {
				ports++
			}
		}
		if ports == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d are ports: %w", ports, want, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond): // looking costs the plugin time too
		}
	}
}
