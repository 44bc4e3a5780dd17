package sink_test

import (
	"net"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // a server's compressors are found by name
	"google.golang.org/grpc/mem"
)

// answerGRPC takes each request and does not look into it.
func answerGRPC(ln net.Listener, secure bool, dir string) error {
	options := []grpc.ServerOption{grpc.ForceServerCodecV2(anything{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		if err := s.RecvMsg(nil); err != nil {
			return err
		}
		return s.SendMsg(nil)
	})}
	if secure {
		config, err := peerTLS(dir)
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(options...)
	go func() { _ = server.Serve(ln) }()
	return nil
}

// anything is a codec that looks into nothing.
type anything struct{}

func (anything) Name() string                         { return "proto" }
func (anything) Marshal(any) (mem.BufferSlice, error) { return nil, nil }
func (anything) Unmarshal(mem.BufferSlice, any) error { return nil }

// localhost is the address of a journal.
type localhost struct{}

func (localhost) Network() string { return "unixgram" }
func (localhost) String() string  { return "localhost" }

// discardEntries reads a journal's socket.
func discardEntries(dir string) (net.Addr, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	go discardDatagrams(conn)
	return localhost{}, nil
}
