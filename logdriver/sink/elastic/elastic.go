// Package elastic sends records to Elasticsearch (7.16 and later) and OpenSearch
// by their bulk API, into a data stream.
//
//	elasticsearch+http://host[:9200][/path][?index=logs-dockline-default]
//	opensearch+https://user:password@host[:9200]
//
// Parameters, beside those of all sinks over HTTP: index, the data stream; and
// api-key-file, a file with an API key in its encoded form.
//
// A record is created under its id, so that one that is sent again is there
// already, and stays there once. Fields are those of the Elastic Common Schema:
//
//	@timestamp           RFC 3339, UTC, always nine decimals
//	time                 the same, of a record that says it is from before 1970, which
//	                     an index in nanoseconds takes none of: @timestamp is when
//	                     it was written then
//	message              the line; bytes that are not UTF-8 read U+FFFD there
//	message_base64       the line's exact bytes, where it is not UTF-8
//	stream               stdout or stderr
//	event.id             record id, <stream>-<number>
//	log.level            what the application says
//	host.name, tags, container.id, container.name, container.runtime,
//	container.image.name, container.image.id, process.command_line,
//	agent.version
//	labels               object: what the container is part of (compose_project,
//	                     …, see field.All) and the attributes that were asked for
//	fields               object: what was lifted out of the line; arrays and objects
//	                     as strings. Dots in these names are underscores, for with
//	                     dots some would be objects and values at once
//	cut                  true where the record is one piece of a longer line
package elastic

import (
	"errors"
	"net/url"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// defaultIndex is a data stream that Elasticsearch makes by its own template,
// and OpenSearch by ours.
const defaultIndex = "logs-dockline-default"

// maxIndex is how long the name of an index may be, in bytes.
const maxIndex = 255

type collector struct{ *web.Collector }

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	c, err := web.Parse(u, host, web.Spec{
		Names: []string{"elasticsearch", "opensearch"}, Port: "9200", Params: []string{"index", "max-message"}, APIKey: "ApiKey",
		Connections: 2, Bytes: 2 << 20, Records: 8192,
	})
	if err != nil {
		return nil, err
	}
	index, given := c.Params["index"]
	if !given {
		index = defaultIndex
	}
	if err := checkIndex(index); err != nil {
		return nil, &options.ValueError{What: wire.ParamKind, Key: "index", Value: index, Err: err}
	}
	c.Below("/" + index + "/_bulk")
	c.AddQuery(url.Values{"filter_path": {"errors,items.*.status,items.*.error"}})
	c.Format = bulk{}
	return &collector{c}, nil
}

// checkIndex holds a name to what Elasticsearch says of those of data streams.
func checkIndex(name string) error {
	switch {
	case name == "" || len(name) > maxIndex:
		return errors.New("not within 1 to 255 bytes")
	case name != strings.ToLower(name):
		return errors.New("has upper case letters, which a data stream must not have")
	case strings.ContainsAny(name, `\/*?"<>| ,#:`) || strings.ContainsAny(name[:1], "-_+."):
		return errors.New("not a name for a data stream")
	}
	return nil
}

func (c *collector) Prepare(m *ship.Meta) ship.Template { return newTemplate(m) }
