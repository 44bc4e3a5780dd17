package wire

// Window knows which of the units that were sent, numbered from 0, the peer has
// answered, where it need not answer in order.
type Window struct {
	Done  uint64              // all units below are answered
	ahead map[uint64]struct{} // answered units above
}

// Waiting reports whether unit n, of those that were sent, is without an answer.
func (w *Window) Waiting(n, sent uint64) bool {
	_, twice := w.ahead[n]
	return n >= w.Done && n < sent && !twice
}

// Take notes that unit n, which is Waiting, is answered, and returns the number
// of units that are without a gap.
func (w *Window) Take(n uint64) uint64 {
	if n != w.Done {
		if w.ahead == nil {
			w.ahead = make(map[uint64]struct{})
		}
		w.ahead[n] = struct{}{}
		return w.Done
	}
	for w.Done++; ; w.Done++ {
		if _, answered := w.ahead[w.Done]; !answered {
			return w.Done
		}
		delete(w.ahead, w.Done)
	}
}
