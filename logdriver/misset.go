package logdriver

import "fmt"

// MissetError is a setting that cannot be read. A process that ended of it would
// have the engine say no more than that its socket is not there, and would block
// the containers that run, for nobody would read their FIFOs. So it goes on reading
// these into the spool, ships and deletes nothing, and tells the reason to whoever
// starts a container.
type MissetError struct{ Err error }

func (e *MissetError) Error() string {
	return fmt.Sprintf("dockline-log takes no containers, for it is not set up right: %v; docker plugin disable -f dockline-log, docker plugin set dockline-log KEY=VALUE, docker plugin enable dockline-log", e.Err)
}

func (e *MissetError) Unwrap() error { return e.Err }

// unlimited is the spool's bound where nobody knows which one is meant: what the
// disk has left is one, too.
const unlimited = 1 << 60

// harmless returns a configuration by which nothing is given up. The pools and
// routes that were in force stay.
func (c Config) harmless() Config {
	c.SpoolMax, c.ConfigFrom, c.ConfigMount, c.LeaveTime = unlimited, "", "", 0
	return c
}

// misset returns why no container is taken, or nil.
func (p *Plugin) misset() error {
	if p.cfg.Misset == nil {
		return nil
	}
	return &MissetError{p.cfg.Misset}
}
