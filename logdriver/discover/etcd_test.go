package discover

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/dockline/dockline/internal/testport"
)

// startEtcd runs a real etcd on loopback until the test ends.
func startEtcd(t *testing.T) (endpoint string, client *clientv3.Client, stop func()) {
	t.Helper()
	endpoint, peer := testport.Of(t), testport.Of(t)
	cmd := exec.Command("etcd", "--data-dir", t.TempDir(), "--listen-client-urls", "http://"+endpoint, "--advertise-client-urls", "http://"+endpoint,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer, "--log-level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + endpoint}, DialTimeout: 20 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return endpoint, client, stop
}

func TestEtcd(t *testing.T) {
	t.Parallel()
	endpoint, client, stop := startEtcd(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(ctx, key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("/logs/a", "192.0.2.1:601")
	put("/logs/b", "relp://192.0.2.2:601?weight=3")
	put("/logsother", "nonsense")
	f := followSource(t, source(t, "etcd+relp://"+endpoint+"/logs", Host{}))
	f.awaits("192.0.2.1:601*1 192.0.2.2:601*3")
	if _, err := client.Delete(ctx, "/logs/a"); err != nil {
		t.Fatal(err)
	}
	f.awaits("192.0.2.2:601*3")
	put("/logs/c", "192.0.2.3:601?weight=2&name=c")
	f.awaits("192.0.2.2:601*3 c*2")
	put("/logs/c", "192.0.2.3")
	put("/logs/c", "%")
	f.fails("etcd's key /logs/c")
	put("/logs/c", "192.0.2.3:601")
	f = followSource(t, source(t, "etcd+relp://"+endpoint+"/logs/", Host{}))
	f.awaits("192.0.2.2:601*3 192.0.2.3:601*1")
	stop()
	f.fails("none of its members has been reached")
	if err := client.Close(); err != nil {
		t.Log(err)
	}
}
