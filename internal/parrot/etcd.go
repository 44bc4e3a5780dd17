// Package parrot holds, for tests, servers that do not behave: one that repeats in its
// refusals what it was shown, and some that are none of the kind that is expected.
package parrot

import (
	"context"
	"net"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type auth struct{ pb.UnimplementedAuthServer }

func (auth) Authenticate(_ context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return nil, status.Errorf(codes.InvalidArgument, "not with %s, %q", r.Password, r.Password)
}

// Etcd runs an etcd that takes no password until the test ends.
func Etcd(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterAuthServer(s, auth{})
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(l) }) // ends when it is stopped
	t.Cleanup(func() { s.Stop(); running.Wait() })
	return l.Addr().String()
}
