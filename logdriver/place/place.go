// Package place knows where the spool is. It lies below the state unless a directory
// of the host is mounted for it. What is noted here lets nobody lose undelivered
// records by changing that: the mount of before is not seen any more.
package place

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dockline/dockline/internal/wholefile"
	"github.com/dockline/dockline/logdriver/spool"
)

const (
	noteFile    = "place"        // below the state: what was used last
	idFile      = "id"           // in a spool: which one it is, wherever it is copied to
	spoolFolder = "dockline-log" // in the mount
	ownSpool    = "spool"        // below the state
	ownPlace    = "the plugin's own directory"
)

// Settings say where the spool is to be.
type Settings struct {
	State       string // the plugin's own directory
	Mount       string // where a directory of the host is seen that the spool is to be in; "": it lies below the state
	MountedFrom string // what that is there, for people
}

// Place says which spool is used.
type Place struct {
	ID      string `json:"id"`
	Where   string `json:"where"`   // for people
	Own     bool   `json:"own"`     // below the state
	Settled bool   `json:"settled"` // the process ended in order and left nothing to deliver
	dir     string
	state   string
	spool   *spool.Spool
}

// Error means that the spool was at another place, out of reach, where
// records may wait to be delivered. Nothing has been touched.
type Error struct{ Was, Is, Note string }

func (e *Error) Error() string {
	return fmt.Sprintf("the spool was in %s, where records may wait to be delivered, and is to be in %s now, where it is not: mount that disk, or set spool.source back and drain it, "+
		"or copy its folder %s there with all that is in it; to give those records up, delete %s", e.Was, e.Is, spoolFolder, e.Note)
}

// wanted is where the settings have the spool.
func wanted(s Settings) (*Place, error) {
	p := own(s.State)
	if s.Mount != "" {
		p.Own, p.Where, p.dir = false, s.MountedFrom, filepath.Join(s.Mount, spoolFolder)
	}
	id, err := os.ReadFile(filepath.Join(p.dir, idFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("look at the spool: %w", err)
	}
	p.ID = string(bytes.TrimSpace(id))
	return p, nil
}

func own(state string) *Place {
	return &Place{Own: true, Where: ownPlace, dir: filepath.Join(state, ownSpool), state: state}
}

// Open opens the spool at its place. A place that was changed is only used when
// nothing is left to deliver at the one before; an Error where that is not known.
func Open(s Settings, cfg spool.Config, log *slog.Logger) (*spool.Spool, *Place, error) {
	want, err := wanted(s)
	if err != nil {
		return nil, nil, err
	}
	last, known, err := lastOf(s.State)
	if err != nil {
		return nil, nil, err
	}
	if known && last.ID != want.ID {
		sp, err := spool.Open(last.dir, cfg, log)
		switch {
		case !last.Own && last.Settled, last.Own && err == nil && settled(sp):
			log.Warn("the spool has another place; docker logs does not show what was written at the one before", "was", last.Where, "is", want.Where)
		case !last.Own:
			return nil, nil, &Error{Was: last.Where, Is: want.Where, Note: filepath.Join(s.State, noteFile)}
		default:
			log.Error("the spool stays where it is until all is delivered and no container logs: only a start after that moves it", "is", last.Where, "shall_be", want.Where)
			last.spool = sp
			return sp, last, errors.Join(err, last.note(false))
		}
	}
	sp, err := spool.Open(want.dir, cfg, log)
	if err == nil && want.ID == "" {
		want.ID = rand.Text()
		err = wholefile.Write(filepath.Join(want.dir, idFile), []byte(want.ID+"\n"), true)
	}
	if err == nil {
		err = want.note(!known || last.ID != want.ID)
	}
	if err != nil && sp != nil && known && last.ID == want.ID {
		// The containers are more important: a disk that takes nothing now must
		// not keep their output from being read.
		log.Error("it could not be noted that the spool is in use; do not move it before a start without this message", "err", err)
		err = nil
	}
	want.spool = sp
	return sp, want, err
}

// lastOf returns where the spool was, if there was one.
func lastOf(state string) (p *Place, known bool, err error) {
	p = own(state)
	data, err := os.ReadFile(filepath.Join(state, noteFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, p)
	}
	if err != nil {
		return p, false, fmt.Errorf("read where the spool was, %s: %w", filepath.Join(state, noteFile), err)
	}
	return p, true, nil
}

// Close notes whether the spool may be left behind: nothing is read or shipped any
// more.
func (p *Place) Close() error {
	p.Settled = settled(p.spool)
	return p.note(false)
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
func (p *Place) note(synced bool) error {
	data, err := json.Marshal(p)
	if err == nil {
		err = wholefile.Write(filepath.Join(p.state, noteFile), append(data, '\n'), synced)
	}
	if err != nil {
		return fmt.Errorf("note where the spool is: %w", err)
	}
	return nil
}
