package loki

import (
	"bytes"
	"encoding/json"

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

// Judge: Loki takes a request with 204 and not a word, or says by its status why
// not. What speaks its protocol may say so in JSON.
func (requests) Judge(answer []byte, _ int) (v web.Verdict, err error) {
	if len(bytes.TrimSpace(answer)) > 0 && !json.Valid(answer) {
		err = web.Misfit(web.Clean(answer), "this is no answer to a push: is it Loki, and is there a page to log in to before it?")
	}
	return v, err
}
