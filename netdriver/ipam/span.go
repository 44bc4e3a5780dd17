package ipam

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// span is a row of addresses, both ends included.
type span struct{ first, last netip.Addr }

func (s span) String() string { return s.first.String() + "-" + s.last.String() }

func (s span) contains(a netip.Addr) bool {
	return a.IsValid() && a.BitLen() == s.first.BitLen() && !a.Less(s.first) && !s.last.Less(a)
}

// after returns the next address, going round.
func (s span) after(a netip.Addr) netip.Addr {
	if next := a.Next(); s.contains(next) {
		return next
	}
	return s.first
}

// order compares two addresses by which comes first on the way round from start.
func (s span) order(start, a, b netip.Addr) int {
	if aBehind, bBehind := a.Less(start), b.Less(start); aBehind != bBehind {
		if aBehind {
			return 1
		}
		return -1
	}
	return a.Compare(b)
}

// at returns the address that lies n, reduced to the span's size, behind its
// first one.
func (s span) at(n uint64) netip.Addr {
	if most := s.most(); most < math.MaxUint64 {
		n %= most + 1
	}
	return plus(s.first, n)
}

// At returns the address that lies n, reduced to the prefix's size, behind its
// first one.
func At(p netip.Prefix, n uint64) netip.Addr { return span{p.Addr(), last(p)}.at(n) }

// most is how far the last address lies behind the first, or the greatest number
// where it is further.
func (s span) most() uint64 {
	a, b := s.first.As16(), s.last.As16()
	if binary.BigEndian.Uint64(a[:8]) != binary.BigEndian.Uint64(b[:8]) {
		return math.MaxUint64
	}
	return binary.BigEndian.Uint64(b[8:]) - binary.BigEndian.Uint64(a[8:])
}

// plus returns the address that lies n behind a, within the low 64 bits.
func plus(a netip.Addr, n uint64) netip.Addr {
	b := a.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+n)
	if a.Is4() {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom16(b)
}

// last returns the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	for i := p.Bits() + 128 - p.Addr().BitLen(); i < 128; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	if p.Addr().Is4() {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom16(b)
}
