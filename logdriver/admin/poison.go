package admin

import (
	"net/http"

	"github.com/dockline/dockline/logdriver/poison"
)

// putAside answers with the records that collectors refused.
func (p *Plugin) putAside(*http.Request) (any, error) {
	all, err := p.Poison.List()
	if all == nil {
		all = []poison.Entry{}
	}
	return all, err
}
