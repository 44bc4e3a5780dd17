package etcd_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness/etcd"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/proc"
)

// A cluster of three goes on with two of them, whether the leader died or is
// cut off, and does not without a majority.
func TestClusterLosesMembers(t *testing.T) {
	l := hosts.Open(t)
	w := l.Wire(t, "backbone")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := etcd.New(ctx, l.Lab, w.Wire, "203.0.113.10/24", "203.0.113.11/24", "203.0.113.12/24")
	ok(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	asker := w.Foreign("asker", "203.0.113.1/24")
	client, err := c.Client(asker.Station)
	ok(t, err)
	t.Cleanup(func() { _ = client.Close() })
	put := func(value string) error {
		// Who asks the one that is cut off waits in vain: the next try asks another.
		return proc.Await(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			_, err := client.Put(ctx, "key", value)
			return err
		})
	}
	leader, err := c.Leader(ctx)
	ok(t, err)
	ok(t, put("all"))
	ok(t, leader.Kill())
	ok(t, put("one is dead"))
	ok(t, leader.Start(ctx))
	ok(t, c.Await(ctx))
	if leader, err = c.Leader(ctx); err != nil {
		t.Fatal(err)
	}
	ok(t, leader.Isolate(ctx))
	ok(t, put("one is cut off"))
	for _, m := range c.Members {
		if m != leader {
			ok(t, m.Kill())
		}
	}
	ok(t, leader.Rejoin(ctx))
	short, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	if _, err := client.Put(short, "key", "no majority"); err == nil {
		t.Error("one of three wrote alone")
	}
	for _, m := range c.Members {
		ok(t, m.Start(ctx))
	}
	ok(t, c.Await(ctx))
	got, err := client.Get(ctx, "key")
	ok(t, err)
	if len(got.Kvs) != 1 || !strings.HasSuffix(string(got.Kvs[0].Value), "off") && string(got.Kvs[0].Value) != "no majority" {
		t.Errorf("got %v", got.Kvs)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
