package spool

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// disk is every change that the spool makes on the disk, one method for each
// kind. Reading is not part of it. A test sets fault, which is asked before
// each change and ends the spool's life by returning an error; changes of more
// than one step are then left half done, as a killed process leaves them.
type disk struct {
	fault func(op string) error
}

func (d disk) check(op string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(op)
}

func (d disk) mkdirAll(path string) error {
	if err := d.check("mkdir"); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o700)
}

func (d disk) mkdir(path string) error {
	if err := d.check("mkdir"); err != nil {
		return err
	}
	return os.Mkdir(path, 0o700)
}

func (d disk) writeFile(path string, data []byte) error {
	if err := d.check("write"); err != nil {
		_ = os.WriteFile(path, data[:len(data)/2], 0o600)
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// replace writes a file under a temporary name and renames it.
func (d disk) replace(path string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(path), tmpPrefix+filepath.Base(path))
	if err := d.writeFile(tmp, data); err != nil {
		return err
	}
	return d.rename(tmp, path)
}

func (d disk) rename(from, to string) error {
	if err := d.check("rename"); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// remove deletes a file; one that is not there is deleted already.
func (d disk) remove(path string) error {
	if err := d.check("remove"); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// removeTree deletes a directory with all that is in it. It is renamed first,
// so that one that was deleted in part is known for what it is.
func (d disk) removeTree(path string) error {
	tmp := filepath.Join(filepath.Dir(path), tmpPrefix+filepath.Base(path))
	if err := d.rename(path, tmp); err != nil {
		return err
	}
	return d.removeTemp(tmp)
}

func (d disk) removeTemp(tmp string) error {
	if err := d.check("remove tree"); err != nil {
		if left, _ := os.ReadDir(tmp); len(left) > 0 {
			_ = os.Remove(filepath.Join(tmp, left[0].Name()))
		}
		return err
	}
	return os.RemoveAll(tmp)
}

func (d disk) open(path string, flag int) (*os.File, error) {
	if err := d.check("open"); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag, 0o600)
}

func (d disk) writeAt(f *os.File, b []byte, at int64) error {
	if err := d.check("write at"); err != nil {
		_, _ = f.WriteAt(b[:len(b)/2], at)
		return err
	}
	_, err := f.WriteAt(b, at)
	return err
}

// append adds to a file that was opened for that.
func (d disk) append(f *os.File, b []byte) error {
	if err := d.check("append"); err != nil {
		_, _ = f.Write(b[:len(b)/2])
		return err
	}
	_, err := f.Write(b)
	return err
}

// splice moves bytes from a pipe to a place in a file.
func (d disk) splice(pipe int, f *os.File, at int64, most int) (int64, error) {
	if err := d.check("splice"); err != nil {
		return 0, err
	}
	for {
		n, err := unix.Splice(pipe, nil, int(f.Fd()), &at, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
