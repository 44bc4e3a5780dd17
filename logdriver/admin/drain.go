package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// drainPoll is how often a drain looks: no single event says that all streams
// are delivered.
const drainPoll = 100 * time.Millisecond

// Drain returns when everything that is spooled has been acknowledged, or with
// what is left when ctx ends.
func (p *Plugin) Drain(ctx context.Context) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		left, streams := uint64(0), 0
		for _, st := range p.Spool.Streams() {
			if b, _ := st.FurthestBehind(); b > 0 {
				left, streams = left+b, streams+1
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of %d containers are not delivered yet%s", units.BytesSize(float64(left)), streams, p.why())
		case <-tick.C:
		}
	}
}

// why says why nothing is delivered, where that is known.
func (p *Plugin) why() string {
	if p.Misset != nil {
		return "; " + p.Misset.Error()
	}
	if p.Streams.Paused.Load() {
		return "; nothing is shipped for a while, for dockline-log died again and again right after its start"
	}
	if c := p.Config.Status(); c.Version == "" {
		return "; no configuration is known: " + cmp.Or(c.Error, c.Refused)
	}
	var down []string
	for _, c := range p.Ship.Collectors() {
		if !c.Healthy {
			one := c.Name
			if c.Trouble != nil {
				one += " (" + c.Trouble.Err + ")"
			}
			down = append(down, one)
		}
	}
	said := ""
	if len(down) > 0 {
		slices.Sort(down)
		said = "; collectors that cannot be reached: " + strings.Join(slices.Compact(down), ", ")
	}
	for _, src := range p.Pools.Sources() {
		if src.Error != "" && src.Collectors == 0 {
			said += fmt.Sprintf("; %s names no collectors: %s", src.Source, src.Error)
		}
	}
	return said
}
