package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dockline/dockline/test/harness/proc"
)

// CrashLoop kills the log plugin's process and waits for the next one, which takes
// this for the latest of many deaths right after a start. mount is the plugin's
// propagated mount, where the processes note their starts. How soon one follows on
// another is up to the engine and to what else the machine does: so the note is kept
// young until the process is there.
func (d Docker) CrashLoop(ctx context.Context, name, mount string) error {
	old, err := d.Plugin(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	noted := make(chan error, 1)
	go func() { noted <- keepNoting(ctx, filepath.Join(mount, ".dockline/starts")) }()
	if err = proc.Kill(ctx, old); err == nil {
		_, err = d.AwaitPlugin(ctx, name, old)
	}
	cancel()
	if notes := <-noted; err == nil {
		err = notes
	}
	return err
}

// keepNoting has the file say, until ctx ends, that a process started just now.
func keepNoting(ctx context.Context, file string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		note, err := json.Marshal(map[string]any{"last": time.Now(), "quick": 5})
		if err == nil {
			err = os.WriteFile(file+".new", note, 0o600)
		}
		if err == nil {
			err = os.Rename(file+".new", file)
		}
		if err != nil {
			return fmt.Errorf("note starts of the plugin: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
