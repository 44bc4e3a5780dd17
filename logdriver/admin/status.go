package admin

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/reload"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// StreamStatus is one stream as an operator sees it.
type StreamStatus struct {
	Stream         string       `json:"stream"`
	Container      string       `json:"container"`
	Name           string       `json:"name"`
	Live           bool         `json:"live"`                   // a container is attached
	Collector      string       `json:"collector,omitempty"`    // where its records go now, in its first pool
	PerRecord      bool         `json:"per_record"`             // each record has its own collector
	Split          int          `json:"split"`                  // over how many collectors it is spread in time slices; 1: not split
	Rate           float64      `json:"bytes_per_second"`       // shipped, lately
	SpooledBytes   uint64       `json:"spooled_bytes"`          // on the disk, acknowledged or not
	Segments       int          `json:"segments"`               // files that these are in
	BacklogBytes   uint64       `json:"backlog_bytes"`          // not acknowledged, by the pool that is furthest behind
	BacklogSince   time.Time    `json:"backlog_since,omitzero"` // when about the oldest of these was written
	AcknowledgedTo uint64       `json:"acknowledged_to_offset"`
	OnFull         string       `json:"on_full"`
	GivesWay       bool         `json:"gives_way"` // its on_full acts now: what it writes is dropped, or slowed down
	End            uint64       `json:"end_offset"`
	Pools          []PoolStatus `json:"pools"` // that it goes to
}

// PoolStatus is one pool that a stream goes to.
type PoolStatus struct {
	Pool           string    `json:"pool"`
	OnFull         string    `json:"on_full"`                // what gives way for what it has not got, when the spool is full
	Collector      string    `json:"collector,omitempty"`    // where the records go now
	Until          uint64    `json:"until_offset,omitempty"` // the stream goes there no longer, but for what is before that
	BacklogBytes   uint64    `json:"backlog_bytes"`
	BacklogSince   time.Time `json:"backlog_since,omitzero"`
	AcknowledgedTo uint64    `json:"acknowledged_to_offset"`
}

// poolsOf returns which pools a stream goes to. at is where, by stream and pool.
func (p *Plugin) poolsOf(st *spool.Stream, at map[[2]string]ship.Place) []PoolStatus {
	all := []PoolStatus{}
	for _, r := range st.Routes() {
		name, until := spool.SplitRoute(r)
		one := PoolStatus{Pool: name, OnFull: st.OnFullOf(r).String(), AcknowledgedTo: st.Cursor(r)}
		if spool.Leaving(r) {
			one.Until = until
		}
		one.BacklogBytes, one.BacklogSince = st.Backlog(r)
		if id, ok := p.Streams.PoolOf(st.ID(), r); ok {
			one.Pool = new(pool.Labels).Of(id)
			one.Collector = at[[2]string{st.ID(), id}].Collector
		}
		all = append(all, one)
	}
	return all
}

// CollectorStatus is one collector of one pool.
type CollectorStatus struct {
	Pool    string  `json:"pool"`
	Name    string  `json:"name"`
	Healthy bool    `json:"healthy"`
	Leaving bool    `json:"leaving"` // in the pool no longer, but not finished with
	Streams int     `json:"streams"`
	Shed    float64 `json:"shed"`                       // part of the keys that do not go to it because it pushes back
	AckTime float64 `json:"acknowledges_after_seconds"` // lately; 0: nothing was acknowledged
	// Why it is not reached, and since when; none since it acknowledged something.
	Error      string    `json:"error,omitempty"`
	ErrorSince time.Time `json:"error_since,omitzero"`
}

// Status is the whole plugin as an operator sees it.
type Status struct {
	SpoolBytes   int64               `json:"spool_bytes"`
	SpoolMax     int64               `json:"spool_max_bytes"`
	DroppedBytes int64               `json:"dropped_bytes"` // since the process began
	Spool        spool.Health        `json:"spool"`
	Config       reload.Status       `json:"config"`
	Warnings     []string            `json:"warnings"`          // of secrets that are sent without encryption
	DrainOnly    bool                `json:"drain_only"`        // nothing is shipped, after a loop of crashes or for what Refuses says
	Refuses      string              `json:"refuses,omitempty"` // why no container is taken, or none that names no collectors
	Collectors   []CollectorStatus   `json:"collectors"`
	Sources      []pool.SourceStatus `json:"sources"` // of collectors that are not listed
	Streams      []StreamStatus      `json:"streams"`
}

// Status looks at everything.
func (p *Plugin) Status() Status {
	used, dropped := p.Spool.Used()
	s := Status{Config: p.Config.Status(), DrainOnly: p.Streams.Paused.Load(), SpoolBytes: used, SpoolMax: p.SpoolMax, DroppedBytes: dropped, Spool: p.Spool.Health(), Collectors: []CollectorStatus{}, Sources: p.Pools.Sources(), Streams: []StreamStatus{}, Warnings: p.Pools.Warnings()}
	if w := p.Config.Warning(); w != "" {
		s.Warnings = append(s.Warnings, "configuration: "+w)
	}
	for _, c := range p.Ship.Collectors() {
		one := CollectorStatus{Pool: new(pool.Labels).Of(c.Pool), Name: c.Name, Healthy: c.Healthy, Leaving: c.Leaving, Streams: c.Streams, Shed: c.Shed, AckTime: c.AckTime.Seconds()}
		if c.Trouble != nil {
			one.Error, one.ErrorSince = c.Trouble.Err, c.Trouble.Since
		}
		s.Collectors = append(s.Collectors, one)
	}
	if err := p.refuses(); err != nil {
		s.Refuses = err.Error()
	}
	at := map[[2]string]ship.Place{}
	for _, place := range p.Ship.Places() {
		at[[2]string{place.Stream, place.Pool}] = place
	}
	for _, st := range p.Spool.Streams() {
		one := StreamStatus{
			Stream: st.ID(), Container: st.Container(), Live: st.Live(), Pools: p.poolsOf(st, at),
			SpooledBytes: st.Bytes(), Segments: st.Segments(), End: st.End(),
			OnFull: st.OnFull().String(), GivesWay: st.GivesWay(),
		}
		one.BacklogBytes, one.BacklogSince = st.FurthestBehind()
		one.AcknowledgedTo = st.End()
		for key, place := range at {
			if key[0] == st.ID() {
				one.PerRecord, one.Split, one.Rate = place.PerRecord, max(one.Split, place.Split), max(one.Rate, place.Rate)
			}
		}
		for _, pool := range one.Pools {
			one.Collector = cmp.Or(one.Collector, pool.Collector)
			one.AcknowledgedTo = min(one.AcknowledgedTo, pool.AcknowledgedTo)
		}
		var info container.Info
		if json.Unmarshal(st.Info(), &info) == nil {
			one.Name = info.Name()
		}
		s.Streams = append(s.Streams, one)
	}
	slices.SortFunc(s.Streams, func(a, b StreamStatus) int { return strings.Compare(a.Name+a.Stream, b.Name+b.Stream) })
	slices.SortFunc(s.Collectors, func(a, b CollectorStatus) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Pool, b.Pool))
	})
	return s
}
