package logdriver

import (
	"reflect"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/dispatch"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/reload"
	"github.com/dockline/dockline/logdriver/resolve"
	"github.com/dockline/dockline/logdriver/spool"
)

// What the settings say reaches the parts that act by it, each word its own.
func TestSettingsReachTheParts(t *testing.T) {
	cfg := Config{
		StateDir: "/state", Collectors: "relp://a:1", ConfigMount: "/config", ConfigMountedFrom: "/srv/conf", ConfigFrom: "consul://c:1/key",
		HostName: "box", Version: "v1", OnFull: spool.Throttle, Sync: 5 * time.Second, SplitAbove: 6 << 10, LeaveTime: time.Minute,
	}
	host := pool.Host{Names: resolve.New(resolve.Host(), quiet), Config: "/state/config/current", Etc: "/host/etc", Log: quiet}
	sent := cfg.dispatch()
	wantSent := dispatch.Settings{
		State: "/state", HostName: "box", Version: "v1",
		OnFull: spool.Throttle, Sync: 5 * time.Second, SplitAbove: 6 << 10, LeaveTime: time.Minute,
	}
	if sent != wantSent {
		t.Errorf("dispatch has %+v", sent)
	}
	taken := cfg.reload(host, func(_, _ *config.Config) ([]*config.Pool, error) { return nil, nil })
	complete(t, sent)
	complete(t, taken)
	taken.Checks, taken.Before = nil, nil // functions are not compared
	wantTaken := reload.Settings{
		State: "/state", Key: "consul://c:1/key", Mount: "/config", MountedFrom: "/srv/conf",
		Fallback: &config.Pool{Name: config.DefaultPool, List: "relp://a:1", Setting: true},
		Host:     discover.Host{Names: host.Names, Etc: "/host/etc", Dir: "/config"},
	}
	if !reflect.DeepEqual(taken, wantTaken) {
		t.Errorf("reload has %+v", taken)
	}
}

// complete has every field of a struct say something.
func complete(t *testing.T, settings any) {
	t.Helper()
	v := reflect.ValueOf(settings)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%T.%s is not set", settings, v.Type().Field(i).Name)
		}
	}
}
