package loki

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// requests are push requests.
type requests struct{}

func (requests) Type() string { return "application/x-protobuf" }

func (requests) Body(dst, text []byte, records []web.Record) []byte {
	web.Gather(records, func(g *web.Group, of []web.Record) {
		size := len(g.Head)
		for i := range of {
			size += len(of[i].Text(text))
		}
		dst = protowire.AppendVarint(append(dst, requestStream<<3|2), uint64(size))
		dst = web.AppendText(append(dst, g.Head...), text, of)
	})
	return dst
}

// Judge: Loki takes a request or says by its status why not.
func (requests) Judge([]byte, int) (web.Verdict, error) { return web.Verdict{}, nil }
