// Package dhcpd runs Debian's DHCP servers, dnsmasq and Kea, on a station of a
// test's wire, and reads what they have leased in their own lease files.
package dhcpd

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/wire"
)

// Kind is which server it is.
type Kind string

// The servers.
const (
	Dnsmasq Kind = "dnsmasq"
	Kea     Kind = "kea"
)

// Settings are what a server leases, on its station's eth0.
type Settings struct {
	Subnet      netip.Prefix
	First, Last netip.Addr
	Router      netip.Addr // invalid: none is announced
	MTU         int        // 0: none is announced
	// Route is one more, by Via.
	Route netip.Prefix
	Via   netip.Addr
	// Lease is how long one lasts. dnsmasq has none shorter than two minutes.
	Lease, Renew, Rebind time.Duration
	// Ping has dnsmasq ask an address before it offers it, which takes 3 s.
	Ping bool
}

// Lease is one as the server has written it down.
type Lease struct {
	Addr          netip.Addr
	MAC, ClientID string // hexadecimal with colons
	HostName      string
	Ends          time.Time
}

// Server is one server, running or not.
type Server struct {
	Kind    Kind
	Station *wire.Station
	Settings

	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

const startTime = time.Minute

// New makes a server's folder in the lab; Start runs it.
func New(l *lab.Lab, kind Kind, on *wire.Station, s Settings) (*Server, error) {
	d := &Server{Kind: kind, Station: on, Settings: s, dir: filepath.Join(l.Dir, on.Name+"-"+string(kind))}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of %s: %w", kind, err)
	}
	return d, nil
}

// Log is the file with what the server said.
func (d *Server) Log() string { return filepath.Join(d.dir, "log") }

func (d *Server) leases() string { return filepath.Join(d.dir, "leases") }

// Start runs the server, which must not run, and waits until it serves.
func (d *Server) Start(ctx context.Context) error {
	args, ready := d.dnsmasq(), "DHCP, IP range"
	env := os.Environ()
	if d.Kind == Kea {
		var err error
		if args, err = d.kea(); err != nil {
			return err
		}
		ready = "DHCP4_STARTED"
		env = append(env, "KEA_PIDFILE_DIR="+d.dir, "KEA_LOCKFILE_DIR="+d.dir)
	}
	log, err := os.OpenFile(d.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make the log of %s: %w", d.Kind, err)
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("make the log of %s: %w", d.Kind, err)
	}
	d.cmd = d.Station.Command(context.WithoutCancel(ctx), args[0], args[1:]...)
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.Env = log, log, env
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.Kind, err)
	}
	d.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		_ = cmd.Wait() // it is killed
	}(d.cmd, d.done)
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("%s does not serve in time, see %s", d.Kind, d.Log()))
	defer cancel()
	return proc.Await(ctx, func(context.Context) error {
		text, err := os.ReadFile(d.Log())
		if err == nil && !strings.Contains(string(text[before:]), ready) {
			err = fmt.Errorf("it has not said %q yet", ready)
		}
		return err
	})
}

// Stop ends the server at once, as a crash does. One that does not run is no error.
func (d *Server) Stop() error {
	if d.cmd == nil {
		return nil
	}
	err := d.cmd.Process.Kill()
	<-d.done
	d.cmd = nil
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", d.Kind, err)
	}
	return nil
}

func seconds(t time.Duration) string { return strconv.Itoa(int(t / time.Second)) }

func (d *Server) dnsmasq() []string {
	args := []string{
		"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces", "--except-interface=lo",
		"--user=root", "--log-facility=-", "--log-dhcp", "--pid-file=" + filepath.Join(d.dir, "pid"), "--dhcp-leasefile=" + d.leases(),
		"--dhcp-authoritative", "--dhcp-lease-max=500",
		fmt.Sprintf("--dhcp-range=%s,%s,%s,%s", d.First, d.Last, mask(d.Subnet), seconds(d.Lease)),
		"--dhcp-option-force=option:T1," + seconds(d.Renew), "--dhcp-option-force=option:T2," + seconds(d.Rebind),
	}
	if !d.Ping {
		args = append(args, "--no-ping")
	}
	if d.Router.IsValid() {
		args = append(args, "--dhcp-option=option:router,"+d.Router.String())
	} else {
		args = append(args, "--dhcp-option=option:router")
	}
	if d.MTU != 0 {
		args = append(args, "--dhcp-option=option:mtu,"+strconv.Itoa(d.MTU))
	}
	if d.Route.IsValid() {
		args = append(args, fmt.Sprintf("--dhcp-option=option:classless-static-route,0.0.0.0/0,%s,%s,%s", d.Router, d.Route, d.Via))
	}
	return args
}

func mask(p netip.Prefix) string {
	all := ^uint32(0) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(all >> 24), byte(all >> 16), byte(all >> 8), byte(all)}).String()
}

const keaConfig = `{"Dhcp4": {
  "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
  "lease-database": {"type": "memfile", "persist": true, "name": %q, "lfc-interval": 0},
  "valid-lifetime": %s, "renew-timer": %s, "rebind-timer": %s, "authoritative": true,
  "subnet4": [{"subnet": %q, "pools": [{"pool": "%s - %s"}], "option-data": [%s]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}]
}}
`

func (d *Server) kea() ([]string, error) {
	var options []string
	if d.Router.IsValid() {
		options = append(options, fmt.Sprintf(`{"name": "routers", "data": %q}`, d.Router))
	}
	if d.MTU != 0 {
		options = append(options, fmt.Sprintf(`{"name": "interface-mtu", "data": "%d"}`, d.MTU))
	}
	conf := filepath.Join(d.dir, "kea.conf")
	text := fmt.Sprintf(keaConfig, d.leases(), seconds(d.Lease), seconds(d.Renew), seconds(d.Rebind), d.Subnet, d.First, d.Last, strings.Join(options, ", "))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("write Kea's configuration: %w", err)
	}
	return []string{"kea-dhcp4", "-c", conf}, nil
}

// Leases reads what the server has leased and not got back, by address.
func (d *Server) Leases() (map[netip.Addr]Lease, error) {
	f, err := os.Open(d.leases())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", d.Kind, err)
	}
	defer f.Close()
	read := readDnsmasq
	if d.Kind == Kea {
		read = readKea
	}
	all, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", d.Kind, err)
	}
	for a, l := range all {
		if time.Now().After(l.Ends) {
			delete(all, a)
		}
	}
	return all, nil
}

// readDnsmasq reads lines of end, MAC, address, host name and client id; a star
// stands for nothing.
func readDnsmasq(r io.Reader) (map[netip.Addr]Lease, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr]Lease{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 5 {
			continue
		}
		l := Lease{MAC: f[1], HostName: strings.Trim(f[3], "*"), ClientID: strings.Trim(f[4], "*")}
		ends, err1 := strconv.ParseInt(f[0], 10, 64)
		if l.Addr, err = netip.ParseAddr(f[2]); errors.Join(err, err1) != nil {
			return nil, fmt.Errorf("line %q: %w", line, errors.Join(err, err1))
		}
		l.Ends = time.Unix(ends, 0)
		all[l.Addr] = l
	}
	return all, nil
}

// readKea reads the memfile, which is a log: the last line of an address counts,
// and one whose lifetime is 0 takes it away.
func readKea(r io.Reader) (map[netip.Addr]Lease, error) {
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = -1
	all := map[netip.Addr]Lease{}
	for {
		f, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if len(f) < 10 || f[0] == "address" {
			continue
		}
		l := Lease{MAC: f[1], ClientID: f[2], HostName: f[8]}
		ends, err1 := strconv.ParseInt(f[4], 10, 64)
		if l.Addr, err = netip.ParseAddr(f[0]); errors.Join(err, err1) != nil {
			return nil, fmt.Errorf("line %q: %w", f, errors.Join(err, err1))
		}
		l.Ends = time.Unix(ends, 0)
		const inUse = "0"
		if f[3] == "0" || f[9] != inUse {
			delete(all, l.Addr)
			continue
		}
		all[l.Addr] = l
	}
}
