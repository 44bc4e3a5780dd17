package ipam

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"

	"github.com/dockline/dockline/internal/options"
)

// SplitName is the name of the backend Split.
const SplitName = "split"

const (
	optionIndex = "host_index"
	optionHosts = "hosts"

	maxHosts = 4096
	// shareLeast is how many addresses a share must have at least, so that none
	// consists of a network's own address, its gateway and its broadcast address.
	shareLeast = 4
)

// Split gives each host of a cluster without any server a part of the range that
// follows from the host's number alone: of H hosts, host i has the addresses from
// size*i/H up to, and without, size*(i+1)/H.
type Split struct{}

// part says which host of how many this is.
type part struct{ index, hosts int }

func parsePart(given map[string]string) (part, error) {
	var s part
	for _, o := range []struct {
		key  string
		to   *int
		most int
	}{{optionHosts, &s.hosts, maxHosts}, {optionIndex, &s.index, maxHosts - 1}} {
		text, there := given[o.key]
		if !there {
			return s, errors.New("backend split needs hosts, how many there are, and host_index, which of them this is, from 0 on")
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > o.most {
			return s, &options.ValueError{What: "IPAM option", Key: o.key, Value: text, Err: fmt.Errorf("not a number from 0 to %d", o.most)}
		}
		*o.to = n
	}
	if s.index >= s.hosts {
		return s, &options.ValueError{What: "IPAM option", Key: optionIndex, Value: strconv.Itoa(s.index), Err: fmt.Errorf("of %d hosts, the last is %d", s.hosts, s.hosts-1)}
	}
	return s, nil
}

// Options are those that a network may give it.
func (Split) Options() []options.Option {
	return []options.Option{
		{Name: optionHosts, Type: fmt.Sprintf("1 to %d", maxHosts), Doc: "How many hosts share the range."},
		{Name: optionIndex, Type: "0 to `hosts` less 1", Doc: "Which of them this is."},
	}
}

// Prepare implements Backend.
func (Split) Prepare(_ context.Context, r PoolRequest) (PoolRequest, error) {
	if err := CheckOptions(r.Options, Split{}.Options()...); err != nil {
		return r, err
	}
	s, err := parsePart(r.Options)
	if err != nil {
		return r, err
	}
	if !r.Prefix.IsValid() {
		return r, errors.New("backend split needs a subnet of each family (--subnet), the same on all hosts")
	}
	p, err := r.pool()
	if err != nil {
		return r, err
	}
	whole := span{p.Range.Addr(), last(p.Range)}
	if size := whole.most(); size < uint64(s.hosts*shareLeast-1) { //nolint:gosec // at most 16,384
		return r, fmt.Errorf("range %s has %d addresses, too few for %d hosts: each needs %d", p.Range, size+1, s.hosts, shareLeast)
	}
	return r, nil
}

// of returns the share of a host. Prepare has checked the pool's options.
func (s part) of(p Pool, index int) span {
	whole := span{p.Range.Addr(), last(p.Range)}
	size, more := bits.Add64(whole.most(), 1, 0) // a range of 2^64 addresses has carried
	cut := func(i int) uint64 {
		high, low := bits.Mul64(size, uint64(i)) //nolint:gosec // 0 to maxHosts
		if more != 0 {
			high, low = uint64(i), 0 //nolint:gosec // as above
		}
		q, _ := bits.Div64(high, low, uint64(s.hosts)) //nolint:gosec // as above
		return q
	}
	share := span{plus(whole.first, cut(index)), whole.last}
	if index+1 < s.hosts {
		share.last = plus(whole.first, cut(index+1)-1)
	}
	return share
}

// View implements Backend.
func (Split) View(p Pool, o Owner) View {
	s, err := parsePart(p.Options)
	if err != nil || o.Kind.Shared() {
		return View{}
	}
	share := s.of(p, s.index)
	return View{First: share.first, Last: share.last}
}

// Claim implements Backend. What is outside of the range is nobody's share.
func (Split) Claim(_ context.Context, p Pool, c Claim) (netip.Addr, error) {
	a := c.Candidates[0]
	s, err := parsePart(p.Options)
	if err != nil {
		return a, err
	}
	if c.Kind.Shared() || c.Replay || !p.Range.Contains(a) || s.of(p, s.index).contains(a) {
		return a, nil
	}
	owner := 0
	for !s.of(p, owner).contains(a) {
		owner++
	}
	return a, fmt.Errorf("address %s is of the share of host %d of %d, %s; that of this host, %d, is %s", a, owner, s.hosts, s.of(p, owner), s.index, s.of(p, s.index))
}

// Release implements Backend.
func (Split) Release(context.Context, Pool, Held) error { return nil }

// Leave implements Backend.
func (Split) Leave(context.Context, Pool) error { return nil }
