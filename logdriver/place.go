package logdriver

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/dockline/dockline/internal/wholefile"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/spool"
)

// The spool lies below the state unless a directory of the host is mounted for
// it. What is noted here lets nobody lose undelivered records by changing that:
// the mount of before is not seen any more.
const (
	placeFile    = "place"        // below the state: what was used last
	idFile       = "id"           // in a spool: which one it is, wherever it is copied to
	spoolMount   = "/spool"       // where config.json has the host's directory mounted
	spoolFolder  = "dockline-log" // in it
	ownSpool     = "spool"        // below the state
	ownPlace     = "the plugin's own directory"
	journalMount = "/journal"            // where config.json has the folder of the host's journal mounted
	socketMount  = "/run/docker/plugins" // a directory of the host with the plugin's id for a name
)

// place says which spool is used.
type place struct {
	ID      string `json:"id"`
	Where   string `json:"where"`   // for people
	Own     bool   `json:"own"`     // below the state
	Settled bool   `json:"settled"` // the process ended in order and left nothing to deliver
	dir     string
}

// PlaceError means that the spool was at another place, out of reach, where
// records may wait to be delivered. Nothing has been touched.
type PlaceError struct{ Was, Is, Note string }

func (e *PlaceError) Error() string {
	return fmt.Sprintf("the spool was in %s, where records may wait to be delivered, and is to be in %s now, where it is not: mount that disk, or set spool.source back and drain it, "+
		"or copy its folder %s there with all that is in it; to give those records up, delete %s", e.Was, e.Is, spoolFolder, e.Note)
}

// wantedPlace is where the settings have the spool.
func wantedPlace(cfg Config) (place, error) {
	p := place{Own: true, Where: ownPlace, dir: filepath.Join(cfg.StateDir, ownSpool)}
	if cfg.SpoolMount != "" {
		p.Own, p.Where, p.dir = false, cfg.SpoolMountedFrom, filepath.Join(cfg.SpoolMount, spoolFolder)
	}
	id, err := os.ReadFile(filepath.Join(p.dir, idFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("look at the spool: %w", err)
	}
	p.ID = string(bytes.TrimSpace(id))
	return p, nil
}

// openSpool opens the spool at its place. A place that was changed is only used
// when nothing is left to deliver at the one before.
func openSpool(cfg Config, log *slog.Logger) (*spool.Spool, place, error) {
	want, err := wantedPlace(cfg)
	if err != nil {
		return nil, want, err
	}
	last, known, err := lastPlace(cfg.StateDir)
	if err != nil {
		return nil, want, err
	}
	open := func(dir string) (*spool.Spool, error) {
		return spool.Open(dir, spool.Config{MaxBytes: cfg.SpoolMax, MinFree: cfg.MinFree, SegmentBytes: segmentBytes, FrameLen: record.Size, Name: nameOf}, log)
	}
	if known && last.ID != want.ID {
		sp, err := open(last.dir)
		switch {
		case !last.Own && last.Settled, last.Own && err == nil && settled(sp):
			log.Warn("the spool has another place; docker logs does not show what was written at the one before", "was", last.Where, "is", want.Where)
		case !last.Own:
			return nil, want, &PlaceError{Was: last.Where, Is: want.Where, Note: filepath.Join(cfg.StateDir, placeFile)}
		default:
			log.Error("the spool stays where it is until all is delivered and no container logs: only a start after that moves it", "is", last.Where, "shall_be", want.Where)
			return sp, last, errors.Join(err, last.note(cfg.StateDir, false))
		}
	}
	sp, err := open(want.dir)
	if err == nil && want.ID == "" {
		want.ID = rand.Text()
		err = wholefile.Write(filepath.Join(want.dir, idFile), []byte(want.ID+"\n"), true)
	}
	if err == nil {
		err = want.note(cfg.StateDir, !known || last.ID != want.ID)
	}
	if err != nil && sp != nil && known && last.ID == want.ID {
		// The containers are more important: a disk that takes nothing now must
		// not keep their output from being read.
		log.Error("it could not be noted that the spool is in use; do not move it before a start without this message", "err", err)
		err = nil
	}
	return sp, want, err
}

// lastPlace returns where the spool was, if there was one.
func lastPlace(state string) (p place, known bool, err error) {
	p = place{Own: true, Where: ownPlace, dir: filepath.Join(state, ownSpool)}
	data, err := os.ReadFile(filepath.Join(state, placeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return p, false, fmt.Errorf("read where the spool was, %s: %w", filepath.Join(state, placeFile), err)
	}
	return p, true, nil
}

// settled reports whether a spool holds nothing to deliver and no container
// writes to it.
func settled(sp *spool.Spool) bool {
	for _, st := range sp.Streams() {
		if st.Live() || st.Undelivered() {
			return false
		}
	}
	return true
}

// note writes down which spool is used. That is synced where it changes; that
// one is settled may be forgotten in a power cut, and that it is not is with the
// kernel's next commit.
func (p place) note(state string, synced bool) error {
	data, err := json.Marshal(p)
	if err == nil {
		err = wholefile.Write(filepath.Join(state, placeFile), append(data, '\n'), synced)
	}
	if err != nil {
		return fmt.Errorf("note where the spool is: %w", err)
	}
	return nil
}

// FindMounts finds out whether directories of the host are mounted for the spool
// and the configuration.
func (c *Config) FindMounts() error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look where the spool is to be: %w", err)
	}
	if c.ConfigMountedFrom = mountedFrom(info, configMount); c.ConfigMountedFrom != "" {
		c.ConfigMount = configMount
	}
	c.JournalMount = journalMount
	if c.SpoolMountedFrom = mountedFrom(info, spoolMount); c.SpoolMountedFrom != "" {
		c.SpoolMount = spoolMount
	}
	return nil
}

// mountedFrom returns what is mounted at a directory, as device and path there,
// or "" where nothing is but the empty directory that config.json names: a
// relative source is taken from the folder that the engine makes for each run
// of the plugin, which is named after the plugin's id.
func mountedFrom(mountinfo []byte, dir string) string {
	var from, id string
	for line := range strings.Lines(string(mountinfo)) {
		f := strings.Fields(line) // id, parent, device, root, mount point, …, "-", type, source
		if len(f) < 5 {
			continue
		}
		switch root := unescape.Replace(f[3]); unescape.Replace(f[4]) {
		case socketMount:
			id = path.Base(root)
		case dir:
			from = f[2] + ":" + root
			if _, rest, ok := strings.Cut(line, " - "); ok && len(strings.Fields(rest)) > 1 {
				from = strings.Fields(rest)[1] + ":" + root
			}
		}
	}
	if id != "" && (strings.HasSuffix(from, "/"+id+"/rootfs") || strings.HasSuffix(from, "/"+id)) {
		return ""
	}
	return from
}

// unescape undoes what the kernel does to odd characters (fs/proc_namespace.c).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// nameOf is a container's name out of what the spool keeps of it.
func nameOf(info json.RawMessage) string {
	var of container.Info
	if json.Unmarshal(info, &of) != nil {
		return ""
	}
	return of.Name()
}
