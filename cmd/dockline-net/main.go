// Command dockline-net is the network plugin: a libnetwork remote driver and
// IPAM driver on one socket. It wires the packages of netdriver and does
// nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/internal/privilege"
	"github.com/dockline/dockline/netdriver/admin"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/engine"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/probe"
	"github.com/dockline/dockline/netdriver/reconcile"
	"github.com/dockline/dockline/netdriver/state"
	"github.com/dockline/dockline/netdriver/watch"
)

// reconcileEvery is how often everything is looked at, whether or not the
// kernel said that something changed.
const reconcileEvery = 30 * time.Second

// adminSocket is the operators', beside the engine's socket: the folder is
// /run/docker/plugins/<id of the plugin> on the host.
const adminSocket = "admin.sock"

const usage = `usage: dockline-net trace [-socket PATH] [-timeout DURATION] [-json] A B
       dockline-net version

The engine starts the plugin without a command. For people there is docker
dockline net, which needs to be installed beside the docker command; this is for
hosts without it, as root, from the plugin's folder in the engine's data root:

  trace    why container A does not reach B, in words; dockline-net trace -help says more
  version  of this binary, with commit and date; needs no plugin that runs

What else the plugin knows it says on its socket for operators, admin.sock:
/status, /metrics, /events and others.
`

func main() {
	if len(os.Args) > 1 { // a person has typed it, on the host
		switch os.Args[1] {
		case "trace":
			os.Exit(runTrace(os.Args[2:], os.Stdout, os.Stderr))
		case "version":
			fmt.Println(build.Line("dockline-net"))
			return
		case "help":
			fmt.Print(usage)
			return
		}
	}
	flag.Usage = func() { fmt.Fprint(flag.CommandLine.Output(), usage) }
	socket := flag.String("socket", "/run/docker/plugins/dockline-net.sock", "unix `path` that the engine dials; the operator's, admin.sock, is beside it")
	dir := flag.String("state", "/var/lib/dockline", "`directory` of the state")
	flag.Parse()
	if flag.NArg() > 0 { // not a plugin that was started by mistake
		fmt.Fprintf(os.Stderr, "dockline-net: there is no command %q\n%s", flag.Arg(0), usage)
		os.Exit(2)
	}
	var recent pluginlog.Recent
	log := logger(os.Getenv("LOG_LEVEL"), &recent)
	signal.Ignore(syscall.SIGHUP) // which asks for what is done at the start anyway; see onDemand
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	set, misset := readSettings(os.Getenv)
	set.recent = &recent
	if err := run(ctx, *socket, *dir, set, misset, log); err != nil {
		log.Error("dockline-net ends", "err", err)
		os.Exit(1)
	}
}

func logger(level string, recent *pluginlog.Recent) *slog.Logger {
	var l slog.Level
	err := l.UnmarshalText([]byte(level))
	log := pluginlog.New(recent.Tee(os.Stdout), recent.Tee(os.Stderr), l)
	if err != nil && level != "" {
		log.Warn("LOG_LEVEL is none of debug, info, warn, error; using info", "value", level)
	}
	return log
}

// run listens before it does anything slow: the engine gives up soon on a
// plugin that it cannot dial, and a call made meanwhile waits in the socket. For
// operators it listens even before: once the engine has dialled it says that the
// plugin is enabled, and who is told that may ask. misset is what is wrong with the
// settings.
func run(ctx context.Context, socket, dir string, set settings, misset error, log *slog.Logger) error {
	al, err := pluginserver.Listen(filepath.Join(filepath.Dir(socket), adminSocket))
	if err != nil {
		return err
	}
	defer func() { _ = al.Close() }()
	l, err := pluginserver.Listen(socket)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	// Making links needs NET_ADMIN, speaking ARP and ND NET_RAW; the files are
	// root's own.
	if err := privilege.Keep(cap.NET_ADMIN, cap.NET_RAW); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if misset != nil {
		return refuse(ctx, l, al, &missetError{misset}, set, log)
	}
	boot, err := state.BootID()
	if err != nil {
		return err
	}
	kept, err := state.Open(dir, boot)
	if err != nil {
		return refuse(ctx, l, al, err, set, log)
	}
	defer func() { _ = kept.Close() }()
	if kept.JournalLost() {
		log.Error("the journal of this boot is damaged and was put aside: no link is removed until the host restarts; restart the engine so that it says again which addresses are in use")
	}
	instance, err := kept.Instance()
	if err != nil {
		return err
	}
	host, err := kernel.Open(kernel.Instance(instance))
	if err != nil {
		return err
	}
	defer host.Close()
	p, err := assemble(host, kept, set, log)
	if err != nil {
		return refuse(ctx, l, al, err, set, log)
	}
	p.driver.Networks.SetBoot(boot)
	if err := p.reconcile.Start(); err != nil {
		log.Warn("reconcile at start", "err", err)
	}
	p.recent = set.recent
	p.watch.Sync()
	return p.serve(ctx, l, al, set.window, log)
}

// tables are the plugin's own, named here so that no two share a name.
func assemble(host *kernel.Kernel, kept *state.Dir, set settings, log *slog.Logger) (*plugin, error) {
	definitions, err1 := state.Durable[network.Definition](kept, "networks")
	pools, err2 := state.Durable[ipam.Pool](kept, "pools")
	journal, err3 := state.Journalled[endpoint.Endpoint](kept, "endpoints")
	given, err4 := state.Journalled[ipam.Given](kept, "addresses")
	cursors, err5 := state.Journalled[netip.Addr](kept, "cursors")
	reservations, err6 := state.Durable[ipam.Reservation](kept, "reservations")
	last, err7 := state.Journalled[ipam.Reservation](kept, "kept")
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return nil, err
	}
	networks, err := network.NewManager(host, definitions, ipam.LocalSpace, log)
	if err != nil {
		return nil, err
	}
	endpoints, err := endpoint.NewManager(host, journal, networks, log)
	if err != nil {
		return nil, err
	}
	wires := watch.New(watch.Config{
		Host: watch.OnKernel{Kernel: host}, Networks: networks, Endpoints: endpoints, Log: log,
	})
	from, err := newBackends(kept, networks, os.Getenv, log)
	if err != nil {
		return nil, err
	}
	if err := from.addDHCP(host, kept, networks, endpoints, wires, log); err != nil {
		return nil, err
	}
	conf := ipam.Config{
		Pools: pools, Addresses: given, Cursors: cursors,
		Routes: routes(host, networks), HostAddrs: host.HostAddrs,
		Bound:    func(p ipam.Pool) bool { return networks.OnPool(p.Prefix) },
		Reserved: networks.Reserved, Endpoints: endpoints.Addresses,
		Reservations: reservations, Kept: last, Keep: set.keep,
		Wire: wires, Backends: from.all, Missing: from.missing, Defaults: from.defaults, Now: time.Now, Log: log,
	}
	if err := conf.CheckDefaults(); err != nil {
		return nil, &missetError{fmt.Errorf("IPAM_OPTIONS: %w", err)}
	}
	addresses, err := ipam.New(conf)
	if err != nil {
		return nil, err
	}
	networks.SetPools(addresses)
	networks.SetEndpoints(endpoints)
	wires.SetPools(addresses)
	from.setPools(addresses)
	window := &admin.Plugin{Host: host, Networks: networks, Endpoints: endpoints, IPAM: addresses, Leases: from.dhcp, Watch: wires, Probe: newProbes(set, networks, wires, host, log), Cluster: from.etcd, PerContainer: set.window.PerContainer, Log: log}
	return &plugin{
		admin:     window,
		driver:    &engine.Driver{Networks: networks, Endpoints: endpoints, IPAM: addresses, Leases: from.dhcp, Watch: wires, Calls: window, Log: log, RequireMAC: set.requireMAC},
		reconcile: &reconcile.Reconciler{Host: host, Networks: networks, Endpoints: endpoints, Addresses: addresses, Now: time.Now, Log: log, KeepLinks: kept.JournalLost(), Done: window.Reconciled},
		host:      host,
		watch:     wires,
		probe:     window.Probe,
		from:      from,
	}, nil
}

// newProbes returns nil where nobody is to be asked.
func newProbes(set settings, networks *network.Manager, wires *watch.Manager, host *kernel.Kernel, log *slog.Logger) *probe.Manager {
	if set.probe == 0 {
		return nil
	}
	probes := probe.New(probe.Config{Every: set.probe, Networks: networks, Wires: wires, Host: host, Log: log})
	wires.SetHeard(probes.Heard)
	return probes
}

// routes returns what a pool that is chosen must not overlap: what the host
// reaches, and our networks whose subnets another IPAM driver gave.
func routes(host *kernel.Kernel, networks *network.Manager) func() ([]netip.Prefix, error) {
	return func() ([]netip.Prefix, error) {
		all, err := host.Routes()
		if err != nil {
			return nil, err
		}
		prefixes := networks.Prefixes()
		for _, r := range all {
			prefixes = append(prefixes, r.Dst)
		}
		return prefixes, nil
	}
}
