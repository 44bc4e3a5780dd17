// Package admin shows an operator what the log plugin does: as answers in JSON, such
// as its status, and as metrics.
//
// It stands beside engine, above everything that it looks at. What it shows is read
// when it is asked for. It changes nothing.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/logdriver/dispatch"
	"github.com/dockline/dockline/logdriver/history"
	"github.com/dockline/dockline/logdriver/poison"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/reload"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
	"github.com/dockline/dockline/logdriver/stream"
)

// Plugin is what is shown.
type Plugin struct {
	Spool   *spool.Spool
	Pumps   *stream.Pumps
	Streams *dispatch.Dispatcher
	Config  *reload.Configuration
	Pools   *pool.Pools
	Ship    *ship.Shipper
	History *history.History
	Poison  *poison.Store
	Log     *slog.Logger

	SpoolMax int64         // bytes
	Misset   error         // why no container is taken; nil: they are
	PauseFor time.Duration // how long nothing is shipped after a loop of crashes
	// PerContainer has metrics of each container.
	PerContainer bool

	once  sync.Once
	calls *calls
}

func (p *Plugin) asked() *calls {
	p.once.Do(func() { p.calls = newCalls() })
	return p.calls
}

// Server returns the server of the plugin's metrics, health, /status, /drain,
// /where, /explain, /config and /poison.
func (p *Plugin) Server(log *slog.Logger) *shared.Server {
	s := shared.New(log, &metrics{p}, p.asked().took, p.asked().errors)
	s.Healthy("spool takes bytes", p.spoolMoves)
	s.Ready("records are shipped", p.ships)
	s.Ready("a configuration is in force", p.configured)
	s.Ready("spool has room", p.hasRoom)
	s.Handle("/status", func(*http.Request) (any, error) { return p.Status(), nil })
	s.Handle("/drain", func(r *http.Request) (any, error) {
		ctx := r.Context()
		if v := r.URL.Query().Get("timeout"); v != "" {
			d, err := time.ParseDuration(v)
			if err != nil {
				return nil, fmt.Errorf("timeout=%q: %w", v, err)
			}
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
		return map[string]bool{"drained": true}, p.Drain(ctx)
	})
	s.Handle("/where", p.where)
	s.Handle("/poison", p.putAside)
	s.Handle("/explain", p.explain)
	s.Handle("/config", func(*http.Request) (any, error) { return p.shownConfig(), nil })
	return s
}
