package pool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/dockline/dockline/logdriver/discover"
)

// membersFile lies below the state.
const membersFile = "collectors.json"

// savedMember is a collector in the file of those that were known last.
type savedMember struct {
	Name   string
	Weight uint32
	URL    string
}

// remember returns what is to be kept for the next process, which may begin while
// the sources are away; nil if nothing is new. p.mu is held.
func (p *Pools) remember(states []discover.State) []byte {
	changed := false
	for _, st := range states {
		if st.Err == nil && !st.Since.IsZero() && !same(p.last[st.ID], st.Members) {
			p.last[st.ID], changed = st.Members, true
		}
	}
	if !changed {
		return nil
	}
	saved := map[string][]savedMember{}
	for source, members := range p.last {
		saved[source] = []savedMember{}
		for _, m := range members {
			saved[source] = append(saved[source], savedMember{m.Name, m.Weight, m.URL.String()})
		}
	}
	data, err := json.Marshal(saved)
	if err != nil {
		p.Log.Warn("the collectors could not be noted for the next start", "err", err)
		return nil
	}
	return data
}

func loadMembers(file string) (map[string][]discover.Collector, error) {
	all := map[string][]discover.Collector{}
	data, err := os.ReadFile(file) // our own
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("read the collectors known before: %w", err)
	}
	var saved map[string][]savedMember
	if err := json.Unmarshal(data, &saved); err != nil {
		return all, fmt.Errorf("read the collectors known before, %s: %w", filepath.Base(file), err)
	}
	for source, members := range saved {
		for _, m := range members {
			u, err := url.Parse(m.URL)
			if err != nil {
				return map[string][]discover.Collector{}, fmt.Errorf("read the collectors known before, %s: %w", filepath.Base(file), err)
			}
			all[source] = append(all[source], discover.Collector{Name: m.Name, Weight: m.Weight, URL: u})
		}
	}
	return all, nil
}
