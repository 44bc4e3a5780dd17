package state

import (
	"testing"

	"github.com/dockline/dockline/internal/testleak"
)

func TestMain(m *testing.M) { testleak.Main(m) }
