package reload

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/pool"
)

func TestMain(m *testing.M) { testleak.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// A version that misses a file of the host is taken when that is there, though
// the source says nothing new.
func TestARefusedVersionIsLookedAtAgain(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "time")
	c := Open(Settings{ // which has no source of its own
		State: t.TempDir(),
		Checks: func(dir string) config.Checks {
			return config.Checks{Pool: pool.Host{Config: dir, Etc: "/", Log: quiet}.Validate}
		},
		Before: func(_, _ *config.Config) ([]*config.Pool, error) { return nil, nil },
	}, quiet)
	was := c.Status().Version
	c.offer(fmt.Appendf(nil, "pools:\n  b: {collectors: 'json+tcp://127.0.0.1:1', secrets: {timeout: /etc%s}}\n", secret), nil)
	c.Again()
	if s := c.Status(); s.Refused == "" || s.Version != was || s.Refusals != 1 {
		t.Errorf("it is not refused once: %+v", s)
	}
	if err := os.WriteFile(secret, []byte("17s"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Again()
	if s := c.Status(); s.Refused != "" || s.Version == was {
		t.Errorf("it is not taken: %+v", s)
	}
	at := c.Status().Applied
	if c.Again(); c.Status().Applied != at {
		t.Error("it is taken twice")
	}
}
