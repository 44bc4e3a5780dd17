package relp

import (
	"fmt"

	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// Transaction numbers of RELP: 1 to 999,999,999, then 1 again. The first one
// is that of the open frame.
const (
	maxTxnr  = 999_999_999
	openTxnr = 1
)

// txnr returns the transaction number of the frame that is sent as number n
// behind open, counted from 0.
func txnr(n uint64) uint32 { return uint32((n+openTxnr)%maxTxnr) + 1 }

// window knows which frames the server has answered. Servers answer in order,
// but RELP does not say that they must.
type window struct{ wire.Window }

// frame returns the number of the one frame that is not below Done and has the
// transaction number t.
func (w *window) frame(t uint32) uint64 {
	distance := (uint64(t) + maxTxnr - uint64(txnr(w.Done))) % maxTxnr
	return w.Done + distance
}

// check refuses an answer to a frame that waits for none, of the sent ones.
func (w *window) check(t uint32, sent uint64) error {
	if t == 0 || t > maxTxnr || !w.Waiting(w.frame(t), sent) {
		return fmt.Errorf("%w: answer to frame %d, which waits for none", ErrFrame, t)
	}
	return nil
}

// take notes that the frame with the number t, which check has passed, is
// answered, and returns the number of frames that are without a gap.
func (w *window) take(t uint32) uint64 { return w.Take(w.frame(t)) }
