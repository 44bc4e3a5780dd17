package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	shared "github.com/dockline/dockline/internal/admin"
)

// sayEvery is how often it is said what a drain waits for, at most.
const sayEvery = 5 * time.Second

// AwaitDrained asks the plugin behind a socket until everything is delivered, and
// says every now and then what is not. Where ctx ends before, the error says what
// is left.
func AwaitDrained(ctx context.Context, socket string, waiting func(string)) error {
	last, said, at := "", "", time.Time{}
	for begun := time.Now(); ; {
		var left *shared.RefusedError
		err := shared.Get(ctx, socket, "/drain?timeout=1s", io.Discard)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("not drained within %v: %s", time.Since(begun).Round(time.Second), cmp.Or(last, "the plugin has not answered yet"))
		case !errors.As(err, &left), left.Code != http.StatusServiceUnavailable:
			return err
		}
		if last = left.Text; last != said && time.Since(at) >= sayEvery {
			said, at = last, time.Now()
			waiting(said)
		}
	}
}
