package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
)

// MaxRanges bounds how many ranges may be acknowledged beyond a cursor. With
// one more to come, its records must not be sent yet.
const MaxRanges = 1000

// ErrRanges means that an acknowledgement would have made more than MaxRanges
// ranges. It was not noted: the records will be sent again after a restart.
var ErrRanges = errors.New("too many ranges acknowledged beyond the cursor")

// Range is the offsets from From up to, not including, To.
type Range struct{ From, To uint64 }

// acked is what one route has acknowledged: all before offset, and the ranges
// beyond it, which are in order, not empty, and touch neither each other nor
// offset.
type acked struct {
	offset uint64
	beyond []Range
}

// with returns what is acknowledged with these ranges too. It shares nothing
// with a.
func (a acked) with(ranges ...Range) acked {
	all := slices.Concat(a.beyond, ranges)
	slices.SortFunc(all, func(x, y Range) int { return cmp.Compare(x.From, y.From) })
	b := acked{offset: a.offset, beyond: all[:0]}
	for _, r := range all {
		last := len(b.beyond) - 1
		switch {
		case r.To <= r.From:
		case r.From <= b.offset:
			b.offset = max(b.offset, r.To)
		case last >= 0 && r.From <= b.beyond[last].To:
			b.beyond[last].To = max(b.beyond[last].To, r.To)
		default:
			b.beyond = append(b.beyond, r)
		}
	}
	return b
}

// next returns the first run of offsets at or behind offset that is not
// acknowledged. The last one has no end.
func (a acked) next(offset uint64) Range {
	r := Range{max(offset, a.offset), math.MaxUint64}
	for _, b := range a.beyond {
		if b.To <= r.From {
			continue
		}
		if b.From > r.From {
			r.To = b.From
			break
		}
		r.From = b.To
	}
	return r
}

// missing appends what of the offsets from..to is not acknowledged.
func (a acked) missing(all []Range, from, to uint64) []Range {
	for from < to {
		r := a.next(from)
		if r.From >= to {
			break
		}
		all = append(all, Range{r.From, min(r.To, to)})
		from = r.To
	}
	return all
}

// The file of a cursor has two slots, which are written in turn: whatever a
// power cut leaves of the one that was being written, the other is whole. What
// a slot holds is little-endian:
//
//	uint64 number, one more than that of the other slot
//	uint64 offset
//	uint32 how many ranges
//	uint64, uint64 from and to of each
//	uint32 CRC-32 (IEEE) of all before it
const (
	slotBytes  = 16 << 10
	slotHeader = 8 + 8 + 4
)

func (a acked) encode(number uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, number)
	b = binary.LittleEndian.AppendUint64(b, a.offset)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(a.beyond)))
	for _, r := range a.beyond {
		b = binary.LittleEndian.AppendUint64(b, r.From)
		b = binary.LittleEndian.AppendUint64(b, r.To)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// decodeSlot reads a slot. It returns false for one that does not check.
func decodeSlot(b []byte) (a acked, number uint64, ok bool) {
	if len(b) < slotHeader {
		return a, 0, false
	}
	n := int(binary.LittleEndian.Uint32(b[16:]))
	end := slotHeader + 16*n
	if n > MaxRanges || len(b) < end+4 || crc32.ChecksumIEEE(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return a, 0, false
	}
	a.offset = binary.LittleEndian.Uint64(b[8:])
	for i := range n {
		r := b[slotHeader+16*i:]
		a.beyond = append(a.beyond, Range{binary.LittleEndian.Uint64(r), binary.LittleEndian.Uint64(r[8:])})
	}
	return a, binary.LittleEndian.Uint64(b), true
}

// decodeSlots returns what the newer of the slots that check says.
func decodeSlots(data []byte) (a acked, number uint64, ok bool) {
	for at := 0; at < min(len(data), 2*slotBytes); at += slotBytes {
		b, n, good := decodeSlot(data[at:min(len(data), at+slotBytes)])
		if good && (!ok || n > number) {
			a, number, ok = b, n, true
		}
	}
	return a, number, ok
}
