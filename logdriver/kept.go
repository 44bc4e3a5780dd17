package logdriver

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dockline/dockline/logdriver/history"
	"github.com/dockline/dockline/logdriver/poison"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/ship"
)

// historyFile lies below the state; historyBytes bounds it.
const (
	historyFile  = "placement"
	historyBytes = 4 << 20
)

// openHistory has the shipper tell the history of what collectors hold.
func openHistory(cfg Config, s *ship.Shipper, log *slog.Logger) *history.History {
	h := history.Open(history.Options{File: filepath.Join(cfg.StateDir, historyFile), MaxBytes: historyBytes, Log: log})
	var labels pool.Labels
	s.Held = func(m *ship.Meta, pool, collector string, held ship.Held) {
		h.Note(history.Batch{
			Stream: m.Stream, Container: m.ContainerID, Name: m.ContainerName, Created: m.Created, Pool: labels.Of(pool), Collector: collector,
			First: held.First, Last: held.Last, Records: held.Records, Bytes: held.Bytes,
		})
	}
	return h
}

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
