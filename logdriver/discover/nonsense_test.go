package discover

import (
	"testing"

	"github.com/dockline/dockline/internal/parrot"
)

// What is no Consul and no etcd, or one that does not get to the point, is a source
// that fails, soon enough.
func TestNonsense(t *testing.T) {
	t.Parallel() // it waits most of the time
	for what, at := range parrot.Nonsense(t) {
		for _, entry := range []string{"consul+relp://" + at + "/logs", "etcd+relp://" + at + "/logs"} {
			t.Run(what+" "+entry[:4], func(t *testing.T) {
				t.Parallel()
				said := firstSaid(t, source(t, entry, Host{}))
				if said == "" || said == "it is taken" || len(said) > maxSaid+10 {
					t.Errorf("%q", said)
				}
			})
		}
	}
}
