// Package pluginlog writes a plugin's own log the way that the engine takes it
// over: what a plugin prints on stdout is in the engine's log as info, what it
// prints on stderr as an error.
package pluginlog

import (
	"context"
	"io"
	"log/slog"
)

// New returns a logger of what is at least as important as level: warnings and
// errors go to stderr, the rest to stdout.
func New(stdout, stderr io.Writer, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	return slog.New(&handler{low: slog.NewTextHandler(stdout, o), high: slog.NewTextHandler(stderr, o)})
}

// handler passes a record to one of two.
type handler struct{ low, high slog.Handler }

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.high.Enabled(ctx, l) }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		return h.high.Handle(ctx, r)
	}
	return h.low.Handle(ctx, r)
}

func (h *handler) WithAttrs(a []slog.Attr) slog.Handler {
	return &handler{h.low.WithAttrs(a), h.high.WithAttrs(a)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.low.WithGroup(name), h.high.WithGroup(name)}
}
