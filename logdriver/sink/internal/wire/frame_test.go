package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/ship"
)

// bare is a template whose message is the line.
type bare struct{}

func (bare) Append(dst []byte, r *ship.Record) []byte { return append(dst, r.Line...) }

func TestAppendCounted(t *testing.T) {
	for _, length := range []int{0, 1, 9, 10, 99, 100, 999, 1000, 1001, 99_999, 1_000_000} {
		for _, spare := range []int{0, 2, 2_000_000} {
			line := strings.Repeat("0123456789", length/10+1)[:length]
			dst := append(make([]byte, 0, 6+spare), "before"...)
			got := string(AppendCounted(dst, bare{}, &ship.Record{Line: []byte(line)}))
			if want := fmt.Sprintf("before%d %s", length, line); got != want {
				t.Errorf("length %d: %.40q, want %.40q", length, got, want)
			}
		}
	}
}
