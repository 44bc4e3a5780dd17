package logdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dockline/dockline/internal/admin"
)

// AwaitDrained asks the plugin behind a socket until everything is delivered, and
// says each time that something else is not. Where ctx ends before, the error
// says what is left.
func AwaitDrained(ctx context.Context, socket string, waiting func(string)) error {
	said := ""
	for begun := time.Now(); ; {
		var left *admin.RefusedError
		err := admin.Get(ctx, socket, "/drain?timeout=1s", io.Discard)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("not drained within %v: %s", time.Since(begun).Round(time.Second), said)
		case !errors.As(err, &left):
			return err
		case left.Text != said:
			said = left.Text
			waiting(said)
		}
	}
}
