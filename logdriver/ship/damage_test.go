package ship

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is said of damage is acknowledged before the damage is: where records go to
// several collectors, too.
func TestDamageIsToldBeforeItIsAcknowledged(t *testing.T) {
	for _, perRecord := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			peers := peersNamed("a b")
			peers["b"].silent = true
			s := New(quiet)
			defer s.Close()
			streams := map[string]*memory{}
			heads := map[string]uint64{}
			for i := range 40 {
				name := fmt.Sprint("s", i)
				m := newMemory()
				head := frames(t, 0, i+1)
				heads[name] = uint64(len(head))
				m.data = append(append(head, make([]byte, 50)...), frames(t, 10, 10)...)
				streams[name] = m
				s.Add(m, &Meta{Stream: name}, membersOf(peers, nil), Key{Value: name, PerRecord: perRecord})
			}
			time.Sleep(3 * time.Second)
			waits := 0
			for _, l := range peers["b"].received() {
				name, _, _ := strings.Cut(l, " ")
				if !strings.Contains(l, "are damaged") {
					continue
				}
				waits++
				if at := heads[name]; streams[name].Unacknowledged(at).From != at {
					t.Errorf("per record %v, %s: the damage at %d is acknowledged, up to %d", perRecord, name, at, streams[name].Unacknowledged(at).From)
				}
			}
			if waits == 0 || waits == len(streams) {
				t.Errorf("per record %v: of %d are told to who does not acknowledge", perRecord, waits)
			}
		})
	}
}
