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
	made  func(change) // for tests: told of each change that was made, or half made
	boot  string       // for tests: the boot id; "" asks the kernel
	free  func() int64 // for tests: how many bytes are; nil asks the kernel
}

// change is one change to the disk.
type change struct {
	op    string // mkdir, create, truncate, write, rename, remove, sync, sync dir
	path  string
	to    string // of a rename
	at, n int64  // of a write: where, and how many bytes
}

func (d disk) check(op string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(op)
}

// did tells of a change unless it failed, and returns err.
func (d disk) did(c change, err error) error {
	if err == nil && d.made != nil {
		d.made(c)
	}
	return err
}

func (d disk) mkdirAll(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil // also on a disk that takes no changes
	}
	if parent := filepath.Dir(path); parent != path {
		if err := d.mkdirAll(parent); err != nil {
			return err
		}
	}
	return d.mkdir(path)
}

func (d disk) mkdir(path string) error {
	if err := d.check("mkdir"); err != nil {
		return err
	}
	return d.did(change{op: "mkdir", path: path}, os.Mkdir(path, 0o700))
}

func (d disk) writeFile(path string, data []byte) error {
	killed := d.check("write")
	if killed != nil {
		data = data[:len(data)/2]
	}
	f, err := d.openFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return errors.Join(killed, err)
	}
	_, err = f.Write(data)
	err = d.did(change{op: "write", path: path, n: int64(len(data))}, err)
	return errors.Join(killed, err, f.Close())
}

// replace writes a file under a temporary name and renames it.
func (d disk) replace(path string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(path), tmpPrefix+filepath.Base(path))
	if err := d.writeFile(tmp, data); err != nil {
		return err
	}
	return d.rename(tmp, path)
}

// exchange is replace for what must not be lost: whatever happens, the old file
// is there or the new one, whole.
func (d disk) exchange(path string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(path), tmpPrefix+filepath.Base(path))
	if err := d.writeFile(tmp, data); err != nil {
		return err
	}
	if err := d.sync(tmp); err != nil {
		return err
	}
	return d.rename(tmp, path)
}

// exchangeForGood is exchange for a new file that has to survive a power cut
// from then on.
func (d disk) exchangeForGood(path string, data []byte) error {
	if err := d.exchange(path, data); err != nil {
		return err
	}
	return d.sync(filepath.Dir(path))
}

// sync returns when what a file holds, or which files a directory holds, would
// survive a power cut.
func (d disk) sync(path string) error {
	if err := d.check("sync"); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return d.did(change{op: "sync", path: path}, errors.Join(f.Sync(), f.Close()))
}

func (d disk) rename(from, to string) error {
	if err := d.check("rename"); err != nil {
		return err
	}
	return d.did(change{op: "rename", path: from, to: to}, os.Rename(from, to))
}

// remove deletes a file; one that is not there is deleted already.
func (d disk) remove(path string) error {
	if err := d.check("remove"); err != nil {
		return err
	}
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return d.did(change{op: "remove", path: path}, err)
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

// removeTemp deletes a directory that holds files only.
func (d disk) removeTemp(tmp string) error {
	left, err := os.ReadDir(tmp)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range left {
		if err := d.remove(filepath.Join(tmp, e.Name())); err != nil {
			return err
		}
	}
	return d.remove(tmp)
}

func (d disk) open(path string, flag int) (*os.File, error) {
	if err := d.check("open"); err != nil {
		return nil, err
	}
	return d.openFile(path, flag)
}

func (d disk) openFile(path string, flag int) (*os.File, error) {
	if d.made == nil {
		return os.OpenFile(path, flag, 0o600)
	}
	_, missing := os.Lstat(path)
	f, err := os.OpenFile(path, flag, 0o600)
	switch {
	case missing != nil:
		err = d.did(change{op: "create", path: path}, err)
	case flag&os.O_TRUNC != 0:
		err = d.did(change{op: "truncate", path: path}, err)
	}
	return f, err
}

func (d disk) writeAt(f *os.File, b []byte, at int64) error {
	killed := d.check("write at")
	if killed != nil {
		b = b[:len(b)/2]
	}
	n, err := f.WriteAt(b, at)
	return errors.Join(killed, d.did(change{op: "write", path: f.Name(), at: at, n: int64(n)}, err))
}

// append adds to a file that was opened for that.
func (d disk) append(f *os.File, b []byte) error {
	killed := d.check("append")
	if killed != nil {
		b = b[:len(b)/2]
	}
	at, err := f.Seek(0, 2)
	if err == nil {
		_, err = f.Write(b)
	}
	return errors.Join(killed, d.did(change{op: "write", path: f.Name(), at: at, n: int64(len(b))}, err))
}

// splice moves bytes from a pipe to a place in a file.
func (d disk) splice(pipe int, f *os.File, at int64, most int) (int64, error) {
	if err := d.check("splice"); err != nil {
		return 0, err
	}
	to := at
	for {
		n, err := unix.Splice(pipe, nil, int(f.Fd()), &to, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return n, d.did(change{op: "write", path: f.Name(), at: at, n: n}, err)
		}
	}
}
