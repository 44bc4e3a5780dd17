package spool

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"
)

// Where nothing is kept for docker logs, data should never reach the disk: the
// kernel writes back what has been dirty for vm.dirty_expire_centisecs, 30 s by
// default, and forgets what was deleted before. So such a stream's segments live
// for a part of that time only, as long as its collectors keep up.
const (
	dirtyExpire  = "/proc/sys/vm/dirty_expire_centisecs"
	expireUsual  = 30 * time.Second
	releaseParts = 3 // a segment lives for one part, and for what acknowledgements take
	releaseLeast = time.Second
	releaseMost  = 10 * time.Second
)

// releaseEvery is how often segments of streams that keep nothing are closed.
func releaseEvery() time.Duration {
	expire := expireUsual
	if data, err := os.ReadFile(dirtyExpire); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			expire = time.Duration(n) * 10 * time.Millisecond
		}
	}
	return min(max(expire/releaseParts, releaseLeast), releaseMost)
}

// runRelease closes them until ctx ends.
func (s *Spool) runRelease(ctx context.Context) {
	tick := time.NewTicker(releaseEvery())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, st := range s.Streams() {
				st.release()
			}
		}
	}
}

// release has the segment that is being written end here, if it may go as soon
// as it is acknowledged and the routes have come as far as it begins: otherwise
// there would be many small ones.
func (st *Stream) release() {
	st.mu.Lock()
	n := len(st.segs)
	due := st.header.KeepBytes == 0 && len(st.cursors) > 0 && n > 0 && len(st.sessions) > 0 && !st.sealed && st.segs[n-1].offset <= st.ackedLocked()
	st.mu.Unlock()
	if due && st.seal() {
		st.trim()
	}
}
