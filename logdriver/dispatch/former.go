package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dockline/dockline/internal/wholefile"
	"github.com/dockline/dockline/logdriver/config"
)

// former are pools that the configuration no longer has, and that are still owed
// something.
type former struct {
	file string

	lost bool // which there were is not known: nothing is given up at once for that

	mu    sync.Mutex // guards pools
	pools map[string]*config.Pool
}

// formerFile lies below the state.
const formerFile = "pools.json"

// damaged is behind the name of a file that could not be read.
const damaged = ".damaged"

func loadFormer(file string) (*former, error) {
	f := &former{file: file, pools: map[string]*config.Pool{}}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &f.pools)
	}
	if err != nil {
		f.pools, f.lost = map[string]*config.Pool{}, true
		return f, fmt.Errorf("read which pools there were, which stays as %s: %w", filepath.Base(file)+damaged, errors.Join(err, os.Rename(file, file+damaged)))
	}
	return f, nil
}

func (f *former) get(name string) *config.Pool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pools[name]
}

// keep notes pools that are to be known though the next configuration does not
// have them: those that something is owed to, of what was known before. It returns
// all that are.
func (f *former) keep(was, next *config.Config, owed map[string]bool) ([]*config.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.pools
	f.pools = map[string]*config.Pool{}
	for name := range owed {
		if next.Pools[name] != nil {
			continue
		}
		if def := known[name]; def != nil {
			f.pools[name] = def
		}
		if was != nil && was.Pools[name] != nil {
			f.pools[name] = was.Pools[name]
		}
	}
	if len(f.pools)+len(known) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(f.pools)
	if err == nil {
		err = wholefile.Write(f.file, data, true)
	}
	if err != nil {
		return nil, fmt.Errorf("note which pools there were: %w", err)
	}
	return slices.Collect(maps.Values(f.pools)), nil
}
