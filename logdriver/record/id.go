package record

// The second part of a record's id is one number, made of where the record
// begins in its stream, in the upper 48 bits, and a tag in the lower 16. What is
// sent again has the same number only if it is the same: a record that was given
// out before its end, because none came for a while, is longer when it is read
// again, and a collector that drops ids that it knows must not drop that. Numbers
// sort as records do.
//
// No frame takes less than 12 bytes, so that the eleven offsets behind a record's
// first are no other record's: one is for what we say of records that begin there,
// one for the last of a record's pieces, those between for the others. That is room
// for 589,824, of at least 64 bytes each.
const tagBits = 16

const (
	markSlot  = 1 << tagBits
	pieceSlot = 2 << tagBits
	lastSlot  = 11 << tagBits
)

// ID returns the number of a record whose first frame begins at offset and whose
// last one span bytes behind it.
func ID(offset, span uint64) uint64 { return offset<<tagBits | span&(1<<tagBits-1) }

// MarkID returns the number of what is said in the place of records, or bytes, of
// which the first begins at offset and the last span bytes behind it.
func MarkID(offset, span uint64) uint64 { return ID(offset, span) + markSlot }

// PieceID returns the number of the n-th piece, from 0, of a record that is sent
// in several. Only in the last does it show where the record ends.
func PieceID(id uint64, n int, last bool) uint64 {
	if last {
		return id + lastSlot
	}
	return id>>tagBits<<tagBits + pieceSlot + uint64(n)
}

// OffsetOf returns where a record with that number begins, which is no piece.
func OffsetOf(id uint64) uint64 { return id >> tagBits }
