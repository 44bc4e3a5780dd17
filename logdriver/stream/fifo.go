package stream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FIFOs returns those in a folder; with an error, those that were found all the same.
func FIFOs(folder string) (all []string, err error) {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		if e.Type()&os.ModeNamedPipe != 0 {
			all = append(all, filepath.Join(folder, e.Name()))
		}
	}
	if err != nil {
		return all, fmt.Errorf("look for FIFOs: %w", err)
	}
	return all, nil
}

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
