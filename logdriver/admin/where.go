package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/history"
)

// Where says which collectors hold the records of a container that were written
// between two moments; a zero one is no bound.
type Where struct {
	From       time.Time          `json:"from,omitzero"`
	To         time.Time          `json:"to,omitzero"`
	Containers []ContainerRecords `json:"containers"` // several where they had the name one after the other
}

// ContainerRecords says where one container's records are.
type ContainerRecords struct {
	history.Holding
	UndeliveredBytes uint64    `json:"undelivered_bytes"`          // in the spool, with no collector yet
	UndeliveredSince time.Time `json:"undelivered_since,omitzero"` // when about the oldest of these was written
}

// Where asks the placement history.
func (p *Plugin) Where(name string, from, to time.Time) (*Where, error) {
	var others []history.Container
	for _, st := range p.Spool.Streams() {
		var info container.Info
		if json.Unmarshal(st.Info(), &info) == nil && len(st.Routes()) > 0 {
			others = append(others, history.Container{ID: st.Container(), Name: info.Name(), Created: info.ContainerCreated})
		}
	}
	found, err := p.History.Where(history.Query{Container: name, From: from, To: to}, others...)
	if err != nil {
		return nil, err
	}
	w := &Where{From: from, To: to}
	for _, one := range found {
		r := ContainerRecords{Holding: one}
		if st := p.Spool.Of(one.Container); st != nil {
			r.UndeliveredBytes, r.UndeliveredSince = st.FurthestBehind()
		}
		w.Containers = append(w.Containers, r)
	}
	return w, nil
}

// where answers /where?container=NAME&from=TIME&to=TIME.
func (p *Plugin) where(r *http.Request) (any, error) {
	q := r.URL.Query()
	from, err := moment(q.Get("from"), "from", time.Now())
	if err != nil {
		return nil, err
	}
	to, err := moment(q.Get("to"), "to", time.Now())
	if err != nil {
		return nil, err
	}
	switch {
	case q.Get("container") == "":
		return nil, refused("no container is named: say ?container=NAME, or the beginning of an id")
	case !to.IsZero() && from.After(to):
		return nil, refused(fmt.Sprintf("from=%q is later than to=%q", q.Get("from"), q.Get("to")))
	}
	w, err := p.Where(q.Get("container"), from, to)
	if none := new(history.NotFoundError); errors.As(err, &none) {
		return nil, &shared.Error{Code: http.StatusNotFound, Err: err}
	} else if err != nil {
		return nil, &shared.Error{Code: http.StatusBadRequest, Err: err}
	}
	return w, nil
}

func refused(why string) error {
	return &shared.Error{Code: http.StatusBadRequest, Err: errors.New(why)}
}

// maxSeconds since 1970 have a place in an int64 of nanoseconds.
const maxSeconds = math.MaxInt64 / 1_000_000_000

// moment reads a time as docker logs takes it: RFC 3339, seconds since 1970, or
// how long ago.
func moment(v, key string, now time.Time) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return checked(t, v, key)
	}
	if d, err := time.ParseDuration(v); err == nil {
		return checked(now.Add(-d), v, key)
	}
	sec, frac, _ := strings.Cut(v, ".")
	s, err1 := strconv.ParseInt(sec, 10, 64)
	ns, err2 := strconv.ParseUint((frac + "000000000")[:9], 10, 64)
	if err1 != nil || err2 != nil || len(frac) > 9 || s < 0 || s > maxSeconds {
		return time.Time{}, refused(fmt.Sprintf("%s=%q is not a time: say 2006-01-02T15:04:05Z, seconds since 1970, or how long ago, as 90m", key, v))
	}
	return checked(time.Unix(s, int64(ns)).UTC(), v, key)
}

// checked refuses what has no place in nanoseconds since 1970.
func checked(t time.Time, v, key string) (time.Time, error) {
	if t.Unix() <= 0 || t.Unix() >= maxSeconds {
		return time.Time{}, refused(fmt.Sprintf("%s=%q is not between 1970 and 2262", key, v))
	}
	return t, nil
}

// seconds is a time as Prometheus has it; 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
