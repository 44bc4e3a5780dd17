package ship

import (
	"fmt"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

// damage is a run of bytes that are no records.
type damage struct {
	at, bytes uint64
	why       string
	fresh     bool // not come across before
	torn      bool // nothing but the beginning of a frame whose end was never written
}

// tell sends a record downstream in the place of bytes that are no records.
// Its id is that of their first.
func (f *feed) tell(out func(*record.Joined)) {
	d := f.damage
	if d.bytes == 0 {
		return
	}
	if f.proc != nil {
		f.proc.Flush(f.processed) // what is before the damage comes before what is said of it
	}
	if d.fresh {
		f.log.Error("bytes of a stream are no records and were put into quarantine",
			"stream", f.meta.Load().Stream, "container", f.meta.Load().ContainerName, "offset", d.at, "bytes", d.bytes, "why", d.why)
	}
	if !d.torn {
		f.sayDamaged(d) // as long as the damage is there, the cursor stays before it: see mark
	}
	f.damage = damage{}
}

func (f *feed) sayDamaged(d damage) {
	text := fmt.Appendf(nil, "[dockline] %d bytes of this container's output are damaged on the disk and left out here; the host keeps them in quarantine", d.bytes)
	f.say(&record.Joined{Offset: d.at, Time: time.Now().UnixNano(), Stderr: true, Line: text})
}

// putAside goes on behind bytes that are no frames. Behind a gap they are the
// rest of a frame that is lost; elsewhere nobody knows what they are, and they
// are put into quarantine.
func (f *feed) putAside(b []byte, why string) {
	if len(b) == 0 {
		return
	}
	if f.seeking {
		f.countLost(uint64(len(b)))
		f.read += uint64(len(b))
		return
	}
	if f.damage.bytes == 0 {
		f.damage = damage{at: f.read, why: why}
	}
	f.damage.bytes += uint64(len(b))
	if f.read >= f.counted {
		f.damage.fresh = true
		f.stats.QuarantinedBytes.Add(uint64(len(b)))
		if err := f.src.Quarantine(f.read, b); err != nil {
			f.log.Error("damaged bytes are not kept", "container", f.meta.Load().ContainerName, "stream", f.meta.Load().Stream, "offset", f.read, "bytes", len(b), "err", err)
		}
		f.counted = f.read + uint64(len(b))
	}
	f.read += uint64(len(b))
}
