// Package engine speaks the engine's log driver protocol: it takes the four
// LogDriver calls off the plugin socket, checks them and hands them to the
// driver behind it. It is where the data path begins, though the data itself
// comes through the FIFOs that these calls name.
package engine

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/container"
)

// Driver is what the calls are for. All of its methods may be called at any
// time, in any order, more than once, and by several goroutines.
type Driver interface {
	// Start begins to take records from the FIFO at file.
	Start(ctx context.Context, file string, info *container.Info) error
	// Stop takes what is still in the FIFO and ends it. An unknown file is fine.
	Stop(ctx context.Context, file string) error
	// ReadLogs writes records back, as frames, until there are no more or, if
	// following, until the container stops or ctx ends.
	ReadLogs(ctx context.Context, info *container.Info, config ReadConfig, w io.Writer) error
}

// ReadConfig says which records `docker logs` asks for (moby
// daemon/logger/logger.go).
type ReadConfig struct {
	Since  time.Time
	Until  time.Time
	Tail   int // negative: all
	Follow bool
}

type startRequest struct {
	File string
	Info container.Info
}

type stopRequest struct{ File string }

type readRequest struct {
	Info   container.Info
	Config ReadConfig
}

type empty struct{ Err string }

type capabilities struct {
	Cap struct{ ReadLogs bool }
}

// Register adds the LogDriver calls to the server.
func Register(s *pluginserver.Server, d Driver) {
	pluginserver.HandleEmpty(s, "/LogDriver.Capabilities", func(context.Context) (*capabilities, error) {
		res := new(capabilities)
		res.Cap.ReadLogs = true
		return res, nil
	})
	pluginserver.Handle(s, "/LogDriver.StartLogging", func(ctx context.Context, req *startRequest) (*empty, error) {
		note(ctx, &req.Info)
		if err := errors.Join(checkFile(req.File), checkInfo(&req.Info)); err != nil {
			return nil, err
		}
		return new(empty), d.Start(ctx, req.File, &req.Info)
	})
	pluginserver.Handle(s, "/LogDriver.StopLogging", func(ctx context.Context, req *stopRequest) (*empty, error) {
		if err := checkFile(req.File); err != nil {
			return nil, err
		}
		return new(empty), d.Stop(ctx, req.File)
	})
	pluginserver.HandleStream(s, "/LogDriver.ReadLogs", func(ctx context.Context, req *readRequest, w io.Writer) error {
		note(ctx, &req.Info)
		if err := checkInfo(&req.Info); err != nil {
			return err
		}
		return d.ReadLogs(ctx, &req.Info, req.Config, w)
	})
}

// note says of which container a call is, where it ends in an error.
func note(ctx context.Context, info *container.Info) {
	pluginserver.Note(ctx, "container", info.Name(), "container_id", info.ContainerID[:min(shortID, len(info.ContainerID))])
}

// shortID is how much of a container's id people see.
const shortID = 12

func checkFile(file string) error {
	if file == "" {
		return errors.New("the call names no File")
	}
	if !filepath.IsAbs(file) || filepath.Clean(file) != file {
		return errors.New("File is not a clean absolute path: " + file)
	}
	return nil
}

// checkInfo wants an id that can stand in a file's name.
func checkInfo(info *container.Info) error {
	id := info.ContainerID
	if len(id) != 64 {
		return errors.New("Info.ContainerID is not 64 hexadecimal digits")
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return errors.New("Info.ContainerID is not 64 hexadecimal digits")
		}
	}
	return nil
}
