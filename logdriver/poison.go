package logdriver

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/dockline/dockline/logdriver/poison"
	"github.com/dockline/dockline/logdriver/ship"
)

// maxPoison bounds each of the two files with what collectors refuse, in bytes.
const maxPoison = 8 << 20

// openPoison has the shipper put aside what collectors refuse.
func openPoison(cfg Config, s *ship.Shipper, log *slog.Logger) *poison.Store {
	store := poison.New(cfg.StateDir, maxPoison)
	s.Aside = func(_, collector string, refused []ship.Refusal) {
		entries := make([]poison.Entry, len(refused))
		for i, r := range refused {
			entries[i] = poison.Entry{
				At: time.Now().UTC(), Collector: collector, ID: r.ID, Container: r.Container,
				Records: r.Records, Class: r.Class, Reason: r.Reason, Encoded: r.Encoded,
			}
		}
		if err := store.Add(entries); err != nil {
			log.Error("records that a collector refused are not kept", "collector", collector, "records", len(entries), "err", err)
		}
	}
	return store
}

// putAside answers with the records that collectors refused.
func (p *Plugin) putAside(*http.Request) (any, error) {
	all, err := p.poison.List()
	if all == nil {
		all = []poison.Entry{}
	}
	return all, err
}
