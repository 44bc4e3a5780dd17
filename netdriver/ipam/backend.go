package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/options"
)

// Backend decides who in the cluster has an address. The Manager keeps what the
// engine knows; a backend is asked before an address is given and told after it
// is free. See the package's comment for what either may rely on.
type Backend interface {
	// Prepare checks the request for a new pool, of which it fills in what was
	// left open. It may wait. Replays of pools that are known do not come here.
	Prepare(ctx context.Context, r PoolRequest) (PoolRequest, error)
	// View says what is known at once of a pool's addresses, for an owner. It is
	// called with the Manager's mutex held, and so are the View's functions.
	View(p Pool, o Owner) View
	// Claim gets one address for an owner and returns it. It may wait.
	Claim(ctx context.Context, p Pool, c Claim) (netip.Addr, error)
	// Release gives an address back that was claimed. It may wait. What it
	// cannot give back now it gives back later by itself (see Manager.Held).
	Release(ctx context.Context, p Pool, h Held) error
	// Leave says that the pool is gone, with all that was claimed of it. It may
	// wait, and goes on by itself as Release does.
	Leave(ctx context.Context, p Pool) error
}

// Quarantiner is a Backend that keeps all hosts from giving out an address that a
// machine has which got it from nobody.
type Quarantiner interface {
	// Foreign takes note of such a machine. It does not wait.
	Foreign(p Pool, a netip.Addr, mac net.HardwareAddr)
}

// Sharer is a Backend with which hosts can share the definition of a network.
type Sharer interface {
	// Agree holds the definition of the network that is to be on a pool against
	// that of the other hosts, and says how it differs. It may wait.
	Agree(ctx context.Context, p Pool, definition map[string]string) error
}

// Agree says that a network with this definition, as users write it, is to be on
// the pool with this prefix.
func (m *Manager) Agree(prefix netip.Prefix, definition map[string]string) error {
	m.mu.Lock()
	p, err := m.poolLocked(prefix)
	m.mu.Unlock()
	if err != nil {
		return nil // the network finds out
	}
	s, ok := m.backend(p.Backend).(Sharer)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), claimMost)
	defer cancel()
	return s.Agree(ctx, p.Pool, definition)
}

// Kind says what an address is claimed for.
type Kind string

const (
	// Container is an endpoint: nobody else in the cluster gets the address.
	Container Kind = ""
	// Host is the host itself, on a port of its own; nobody else gets it either.
	Host Kind = "host"
	// Gateway is a network's gateway: every host may say so of the same address,
	// but no container gets it.
	Gateway Kind = "gateway"
	// Aside is what a user sets aside, which is like that.
	Aside Kind = "aside"
)

// Shared reports whether several hosts may claim an address for this.
func (k Kind) Shared() bool { return k == Gateway || k == Aside }

// Owner is for whom an address is claimed, on this host.
type Owner struct {
	Kind Kind
	Key  string           // the same whenever the same container starts; "" where nothing is known of it
	MAC  net.HardwareAddr // nil: not known yet
	Name string           // the container's; "": not known
}

// Claim asks a backend for an address.
type Claim struct {
	Owner
	// Candidates are the addresses that may be given, the best first. No other
	// claim and no release of this Manager concerns them meanwhile. There are
	// none where the View left the choice to the backend, unless the engine
	// named one.
	Candidates []netip.Addr
	// Replay says that the engine knows the address to be the owner's since
	// before: where nobody can be asked now, it is his, and found out later.
	Replay bool
}

// View is what a backend knows without asking anybody. Its zero value leaves
// everything to the Manager.
type View struct {
	// Chooses says that the backend chooses the owner's address, not the Manager.
	Chooses bool
	// Prefer is the address to try first; invalid: none.
	Prefer netip.Addr
	// First and Last bound what is chosen from; invalid: the pool's range.
	First, Last netip.Addr
	// Start is where the first search begins for an owner without a key;
	// invalid: at the first address.
	Start netip.Addr
	// Taken reports whether somebody is known to have an address; nil: nobody.
	Taken func(netip.Addr) bool
	// Spare reports of a Taken one whether it may be given all the same where no
	// other is left; nil: none may.
	Spare func(netip.Addr) bool
	// Fault says why nothing but this is known; it is said where nothing is left.
	Fault error
	// Several is how many candidates a claim should have; 0 is one.
	Several int
}

// Errors that a Backend's Claim ends in and that have the Manager choose again.
var (
	// ErrTaken says that every candidate is somebody else's, and that the View
	// knows by now.
	ErrTaken = errors.New("taken by another host")
	// ErrAway says that nobody can be asked, and that the View knows by now,
	// which has what can be given all the same.
	ErrAway = errors.New("nobody can be asked")
)

// Held is an address that this host has of a pool, as the Manager knows it.
type Held struct {
	Addr netip.Addr
	Kind Kind
	Key  string
	// Busy says that it is being claimed or given back: leave it alone.
	Busy bool
}

// embedded is the backend of a host that is alone: every free address is its own.
type embedded struct{}

// Prepare implements Backend.
func (embedded) Prepare(_ context.Context, r PoolRequest) (PoolRequest, error) {
	return r, CheckOptions(r.Options)
}

// View implements Backend.
func (embedded) View(Pool, Owner) View { return View{} }

// Claim implements Backend.
func (embedded) Claim(_ context.Context, _ Pool, c Claim) (netip.Addr, error) {
	return c.Candidates[0], nil
}

// Release implements Backend.
func (embedded) Release(context.Context, Pool, Held) error { return nil }

// Leave implements Backend.
func (embedded) Leave(context.Context, Pool) error { return nil }

// absent stands for a backend that pools have and this process was not given:
// what is there stays, and nothing is added.
type absent struct {
	embedded
	name string
}

// Prepare implements Backend.
func (a absent) Prepare(context.Context, PoolRequest) (PoolRequest, error) {
	return PoolRequest{}, a.err()
}

// Claim implements Backend.
func (a absent) Claim(_ context.Context, _ Pool, c Claim) (netip.Addr, error) {
	if c.Replay {
		return c.Candidates[0], nil
	}
	return netip.Addr{}, a.err()
}

func (a absent) err() error {
	return fmt.Errorf("addresses come from backend %q, which this plugin is not set up for (docker plugin set)", a.name)
}

// Embedded is the name of the backend that a Manager has of its own.
const Embedded = "embedded"

// optionBackend names the backend among the options of a pool (--ipam-opt).
const optionBackend = "backend"

// CheckOptions refuses options of a pool that a backend with the known ones does
// not have.
func CheckOptions(given map[string]string, known ...options.Option) error {
	return options.CheckKeys("IPAM option", given, append(options.Names(known), optionBackend))
}

// CheckDefaults returns an error for defaults that name no backend there is.
func (c Config) CheckDefaults() error {
	_, _, err := c.chosen(nil)
	return err
}

// chosen returns the name of the backend that options ask for, and the options
// with the defaults of that backend.
func (c Config) chosen(given map[string]string) (string, map[string]string, error) {
	preset := cmp.Or(c.Defaults[optionBackend], Embedded)
	name := cmp.Or(given[optionBackend], preset)
	if name == preset && len(c.Defaults) > 0 {
		merged := maps.Clone(c.Defaults)
		maps.Copy(merged, given)
		given = merged
	}
	if _, there := c.Backends[name]; there || name == Embedded {
		return name, given, nil
	}
	if why := c.Missing[name]; why != "" {
		return "", nil, &options.ValueError{What: "IPAM option", Key: optionBackend, Value: name, Err: errors.New(why)}
	}
	names := append(slices.Collect(maps.Keys(c.Backends)), Embedded)
	slices.Sort(names)
	return "", nil, &options.ValueError{What: "IPAM option", Key: optionBackend, Value: name,
		Err: fmt.Errorf("this plugin has %s", strings.Join(names, ", "))}
}

// elsewhere says of an option that a backend does not have which other one has it.
func (c Config) elsewhere(name string, err error) error {
	var unknown *options.UnknownKeyError
	if !errors.As(err, &unknown) {
		return err
	}
	for _, other := range slices.Sorted(maps.Keys(c.Backends)) {
		o, ok := c.Backends[other].(interface{ Options() []options.Option })
		if ok && slices.Contains(options.Names(o.Options()), unknown.Key) {
			return fmt.Errorf("IPAM option %q is of backend %s, and this network has backend %s: give --ipam-opt backend=%s, or leave it out", unknown.Key, other, name, other)
		}
	}
	return err
}

// backend returns the one of that name; "" is the embedded one, as pools have it
// that were stored before there were others.
func (m *Manager) backend(name string) Backend {
	if name == "" || name == Embedded {
		return embedded{}
	}
	if b := m.cfg.Backends[name]; b != nil {
		return b
	}
	return absent{name: name}
}
