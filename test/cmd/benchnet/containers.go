package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dockline/dockline/test/harness"
)

// containers measures docker run, from the command's start to its end, of a
// container that does nothing, on each network in turn.
func (b *bench) containers(ctx context.Context) error {
	for round := range b.runs + 1 {
		for i := range variants {
			v := variants[(i+round)%len(variants)]
			if v.network == "" {
				continue
			}
			begin := time.Now()
			if _, err := b.host.Engine.Run(ctx, "run", "--rm", "--network", v.network, harness.Image, "true"); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			if round > 0 { // the first one warms up
				b.runTimes[v.name] = append(b.runTimes[v.name], since(begin))
			}
		}
	}
	return nil
}
