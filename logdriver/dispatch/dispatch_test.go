package dispatch

import (
	"log/slog"
	"testing"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// From which rate on a key is split is the container's word, then the pool's, then
// the route's, the defaults' and the setting's.
func TestSplitAbove(t *testing.T) {
	const pools = "pools:\n  plain: {collectors: 'json+tcp://127.0.0.1:1'}\n" +
		"  own: {collectors: 'json+tcp://127.0.0.1:1', split-above: 3KiB/s}\n  never: {collectors: 'json+tcp://127.0.0.1:1', split-above: \"off\"}\n"
	const defaults = "defaults: {log-opts: {split-above: 5KiB/s}}\n"
	const routes = "routes: [{match: {image: '*'}, pools: [], log-opts: {split-above: 4KiB/s}}]\n"
	for name, c := range map[string]struct {
		conf string
		opts map[string]string
		want int64
	}{
		"nothing said":            {pools, map[string]string{"pool": "plain"}, 6 << 10},
		"the defaults":            {pools + defaults, map[string]string{"pool": "plain"}, 5 << 10},
		"the route":               {pools + routes + defaults, map[string]string{"pool": "plain"}, 4 << 10},
		"the pool":                {pools + routes + defaults, map[string]string{"pool": "own"}, 3 << 10},
		"the pool, never":         {pools + routes + defaults, map[string]string{"pool": "never"}, 0},
		"the container":           {pools + routes + defaults, map[string]string{"pool": "own", "split-above": "2KiB/s"}, 2 << 10},
		"the container, never":    {pools + routes + defaults, map[string]string{"pool": "own", "split-above": "off"}, 0},
		"the container, all same": {pools + routes + defaults, map[string]string{"pool": "never", "split-above": "3KiB/s"}, 3 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			checks := config.Checks{
				Pool:    func(*config.Pool) error { return nil },
				Options: CheckOptions,
				OnFull:  func(string) error { return nil },
			}
			conf, _, err := config.Parse("x", []byte(c.conf), nil, checks)
			if err != nil {
				t.Fatal(err)
			}
			d := &Dispatcher{settings: Settings{SplitAbove: 6 << 10}, former: &former{}}
			pl, err := d.plan(&container.Info{ContainerID: "1", Config: c.opts}, conf, true)
			if err != nil {
				t.Fatal(err)
			}
			if got := d.key(pl.Options, pl.Pools[0]).SplitAbove; got != c.want {
				t.Errorf("it is %d, not %d", got, c.want)
			}
		})
	}
}

// With more ranges than fit, what a former process noted included, the cursor
// moves on all the same.
func TestTooManyRanges(t *testing.T) {
	sp, err := spool.Open(t.TempDir(), spool.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	se, _, err := sp.Attach(spool.Params{Container: "1", Routes: []string{config.DefaultPool}}, "/fifo/1")
	if err != nil {
		t.Fatal(err)
	}
	src := newSource(se.Stream(), config.DefaultPool)
	var before, now []ship.Range
	for i := range uint64(ship.MaxRanges) {
		before = append(before, ship.Range{From: 1000 + 10*i, To: 1005 + 10*i})
		now = append(now, ship.Range{From: 100_000 + 10*i, To: 100_005 + 10*i})
	}
	if err := src.AckRanges(before...); err != nil {
		t.Fatal(err)
	}
	if got := src.Unacknowledged(1002); got != (ship.Range{From: 1005, To: 1010}) {
		t.Errorf("behind the first range, %v is not acknowledged", got)
	}
	if err := src.AckRanges(append([]ship.Range{{From: 0, To: 1007}}, now...)...); err != nil {
		t.Fatal(err)
	}
	if src.Cursor() != 1007 || src.Unacknowledged(0) != (ship.Range{From: 1007, To: 1010}) {
		t.Errorf("the cursor is at %d", src.Cursor())
	}
}
