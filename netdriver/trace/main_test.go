package trace

import (
	"flag"
	"os"
	"testing"

	"github.com/dockline/dockline/internal/testleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Traces of what does not answer wait, and use no CPU meanwhile.
	if err := flag.Set("test.parallel", "8"); err != nil {
		os.Exit(2)
	}
	testleak.Main(m)
}
