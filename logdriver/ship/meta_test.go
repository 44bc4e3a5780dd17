package ship

import (
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/field"
)

func TestFieldsAreThoseOfTheTable(t *testing.T) {
	m := Meta{ContainerID: "c", ContainerName: "n", ImageID: "i", ImageName: "in", Command: "cmd", Created: time.Unix(1, 0), Host: "h", Tag: "t", Engine: "e", Version: "v"}
	all := field.All()
	for _, f := range all[10:] {
		m.Workload = append(m.Workload, Attr{Key: f.Name, Value: "x"})
	}
	got := m.Fields()
	if len(got) != len(all) {
		t.Fatalf("%d fields, not %d", len(got), len(all))
	}
	for i, a := range got {
		if a.Key != all[i].Name {
			t.Errorf("%d: %s, want %s", i, a.Key, all[i].Name)
		}
	}
	if empty := (&Meta{Stream: "s"}).Fields(); len(empty) != 0 {
		t.Errorf("without a value: %v", empty)
	}
}
