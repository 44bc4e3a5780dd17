package logdriver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// A process that dies at once, again and again, dies of something that it does:
// of a record, say, that it cannot stand. Containers must not suffer from that,
// so after some such deaths it only moves bytes into the spool for a while.
const (
	startsFile   = "starts"
	quickStart   = 2 * time.Second // after the one before: the engine restarts at once
	quickStarts  = 5               // so many in a row are a loop
	drainOnlyFor = 30 * time.Second
)

// starts is what the file of that name holds.
type starts struct {
	Last  time.Time `json:"last"`
	Quick int       `json:"quick"` // starts soon after the one before, in a row
}

// noteStart writes down that a process starts and reports whether it looks as
// if those before had died of what they did.
func noteStart(dir string, now time.Time, log *slog.Logger) (loop bool) {
	var s starts
	path := filepath.Join(dir, startsFile)
	if data, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(data, &s) // torn: as if there were none
	}
	if since := now.Sub(s.Last); since >= 0 && since < quickStart {
		s.Quick++
	} else {
		s.Quick = 0
	}
	s.Last = now
	data, err := json.Marshal(s)
	if err == nil {
		err = errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(path, data, 0o600))
	}
	if err != nil {
		log.Warn("the start could not be noted; a loop of crashes would not be seen", "err", err)
	}
	return s.Quick >= quickStarts
}

// noteStop says that the process ended in order.
func noteStop(dir string) error {
	if err := os.Remove(filepath.Join(dir, startsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("note the stop: %w", err)
	}
	return nil
}

// beginDrainOnly puts shipping off. It is called before anything is shipped.
func (p *Plugin) beginDrainOnly() {
	p.streams.Paused.Store(true)
	p.log.Error("dockline-log died again and again right after its start: it only spools now, ships nothing, and will try again",
		"starts", quickStarts, "try_again_in", drainOnlyFor)
	p.later = time.AfterFunc(drainOnlyFor, p.endDrainOnly)
}

func (p *Plugin) endDrainOnly() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	// A container that starts now either sees this, or is in the list below.
	p.streams.Paused.Store(false)
	p.log.Warn("shipping again after a loop of crashes")
	p.streams.LookAll()
}
