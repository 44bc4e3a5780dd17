package etcd

import (
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/parrot"
)

// What is no etcd, or does not get to the point, is one that is away, and that is said.
func TestNonsense(t *testing.T) {
	t.Parallel() // it waits most of the time
	for what, at := range parrot.Nonsense(t) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "a", "http://"+at)
			await(t, "the fault is said", func() bool {
				fault := h.b.Status().Fault
				return fault != "" && !strings.Contains(fault, "no connection yet")
			})
			if fault := h.b.Status().Fault; len(fault) > 1<<10 {
				t.Errorf("%d bytes are said: %.300q", len(fault), fault)
			}
		})
	}
}
