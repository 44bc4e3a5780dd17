package pluginserver

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// unusedGrace is how long a connection may take to bring its first call while
// the server stops.
const unusedGrace = 250 * time.Millisecond

// unused knows the connections that have not brought a call yet. The engine's
// HTTP client leaves such behind when it dials and another connection becomes
// free meanwhile; net/http's Shutdown would wait five seconds for each.
type unused struct {
	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

// note is http.Server.ConnState.
func (u *unused) note(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state == http.StateNew {
		u.conns[c] = true
	} else {
		delete(u.conns, c)
	}
}

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close()
	}
}
