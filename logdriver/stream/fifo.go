package stream

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenFIFO opens the reading end of a FIFO, whether it has a writer or not.
func OpenFIFO(path string) (*os.File, error) {
	fd, err := open(path)
	if err == nil {
		if err = unix.SetNonblock(fd, true); err != nil { // for the runtime's poller
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the container's FIFO: %w", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
