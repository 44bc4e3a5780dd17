// Package state keeps what the network plugin must remember, in two bbolt
// files of one directory (see Dir):
//
//   - networks.db holds networks and address pools. A write is on the disk
//     when it returns: the engine never says again what it said about them.
//   - journal-<boot id>.db holds endpoints and given addresses. A write is in
//     the page cache when it returns, which a killed plugin survives. A power
//     cut it does not, but that takes every link and sandbox with it too, and
//     the engine then replays the addresses that it still knows
//     (RequiresRequestReplay). The boot id in the name is what keeps a file
//     that a power cut may have torn from ever being read.
//
// It stands below network, endpoint and ipam, which each own their tables and
// declare the interface through which they see them. Values are JSON.
package state

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/dockline/dockline/internal/failpoint"
)

const (
	networksFile  = "networks.db"
	journalPrefix = "journal-"
	journalSuffix = ".db"
	asideSuffix   = ".corrupt"
	bootIDFile    = "/proc/sys/kernel/random/boot_id"

	// lockTimeout is how long an older process of ours may take to let go of
	// the files after the engine has started a new one.
	lockTimeout = 10 * time.Second
	fileMode    = 0o600
	dirMode     = 0o700

	instanceBytes = 6
)

// CorruptError says that a file cannot be read as what it should be. It is
// still there.
type CorruptError struct {
	Path string
	Err  error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }

func (e *CorruptError) Unwrap() error { return e.Err }

// Dir is an open state directory.
type Dir struct {
	networks *bbolt.DB
	journal  *bbolt.DB
	lost     bool
}

// JournalLost reports whether a journal of this boot was damaged and put aside,
// so that containers may run of which nothing is known.
func (d *Dir) JournalLost() bool { return d.lost }

// BootID returns the kernel's id of this boot (proc_sys_kernel(5), random/boot_id).
func BootID() (string, error) {
	b, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Open opens the state in a directory, which it makes if need be. Journals of
// other boots are removed: what they name does not exist any more. A damaged
// journal is put aside (see JournalLost), a damaged networks.db is a *CorruptError.
func Open(dir, bootID string) (*Dir, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	journal := filepath.Join(dir, journalPrefix+bootID+journalSuffix)
	if err := removeOther(dir, journal); err != nil {
		return nil, err
	}
	networks, err := open(filepath.Join(dir, networksFile), false)
	if err != nil {
		return nil, err
	}
	j, err := openJournal(journal)
	if err != nil {
		return nil, errors.Join(err, networks.Close())
	}
	_, err = os.Stat(journal + asideSuffix)
	return &Dir{networks: networks, journal: j, lost: err == nil}, nil
}

// openJournal puts a damaged journal aside and goes on with an empty one.
func openJournal(path string) (*bbolt.DB, error) {
	db, err := open(path, true)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		return db, err
	}
	if err := os.Rename(path, path+asideSuffix); err != nil {
		return nil, fmt.Errorf("put a damaged journal aside: %w", err)
	}
	return open(path, true)
}

// guard turns a panic of the library, or a fault in the memory that it maps,
// into a *CorruptError: both are what it makes of pages that were damaged.
func guard(path string, fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &CorruptError{Path: path, Err: fmt.Errorf("%v", p)}
		}
	}()
	return fn()
}

// readAll walks every page that holds a value, to find damage before anything
// is built on the file.
func readAll(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
}

func open(path string, noSync bool) (*bbolt.DB, error) {
	var db *bbolt.DB
	err := guard(path, func() (err error) {
		db, err = bbolt.Open(path, fileMode, &bbolt.Options{
			Timeout: lockTimeout, NoSync: noSync, NoGrowSync: noSync, FreelistType: bbolt.FreelistMapType,
		})
		if err == nil {
			err = readAll(db)
		}
		return err
	})
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch) {
		return nil, &CorruptError{Path: path, Err: err}
	} else if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

func removeOther(dir, keep string) error {
	found, err := filepath.Glob(filepath.Join(dir, journalPrefix+"*"+journalSuffix+"*"))
	if err != nil {
		return fmt.Errorf("look for journals: %w", err)
	}
	for _, path := range found {
		if path == keep || path == keep+asideSuffix {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the journal of another boot: %w", err)
		}
	}
	return nil
}

// Instance returns the random id of this installation, which goes with its
// networks; it is made with the first call.
func (d *Dir) Instance() (string, error) {
	t, err := Durable[string](d, "instance")
	if err != nil {
		return "", err
	}
	all, err := t.All()
	if err != nil {
		return "", err
	}
	if id := all["id"]; id != "" {
		return id, nil
	}
	raw := make([]byte, instanceBytes)
	_, _ = rand.Read(raw) // never returns an error (crypto/rand)
	id := hex.EncodeToString(raw)
	return id, t.Put("id", id)
}

// Close closes both files.
func (d *Dir) Close() error { return errors.Join(d.networks.Close(), d.journal.Close()) }

// Table is a named set of values of one type by key. It is safe for
// concurrent use; every call is one transaction.
type Table[V any] struct {
	db    *bbolt.DB
	name  []byte
	title string // the name again
}

// Durable returns a table whose writes are on the disk when they return.
func Durable[V any](d *Dir, name string) (*Table[V], error) { return table[V](d.networks, name) }

// Journalled returns a table that lives as long as this boot.
func Journalled[V any](d *Dir, name string) (*Table[V], error) { return table[V](d.journal, name) }

func table[V any](db *bbolt.DB, name string) (*Table[V], error) {
	t := &Table[V]{db: db, name: []byte(name), title: name}
	err := guard(db.Path(), func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(t.name)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("make table %q: %w", name, err)
	}
	return t, nil
}

// Put writes one value.
func (t *Table[V]) Put(key string, v V) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", t.name, key, err)
	}
	err = t.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(t.name).Put([]byte(key), raw) })
	failpoint.Hit("state", "put", t.title)
	if err != nil {
		return fmt.Errorf("write %s %q: %w", t.name, key, err)
	}
	return nil
}

// Delete removes values; those that are missing count as removed.
func (t *Table[V]) Delete(keys ...string) error {
	err := t.db.Update(func(tx *bbolt.Tx) error {
		var errs []error
		for _, key := range keys {
			errs = append(errs, tx.Bucket(t.name).Delete([]byte(key)))
		}
		return errors.Join(errs...)
	})
	failpoint.Hit("state", "delete", t.title)
	if err != nil {
		return fmt.Errorf("delete from %s: %w", t.name, err)
	}
	return nil
}

// All returns every value by key. One that cannot be decoded is an error that
// names it: nothing unreadable is skipped, for what it reserves would be given
// to somebody else.
func (t *Table[V]) All() (map[string]V, error) {
	all := map[string]V{}
	err := t.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(t.name).ForEach(func(key, raw []byte) error {
			var v V
			if err := json.Unmarshal(raw, &v); err != nil {
				return &CorruptError{Path: t.db.Path(), Err: fmt.Errorf("decode %q: %w", key, err)}
			}
			all[string(key)] = v
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	return all, nil
}
