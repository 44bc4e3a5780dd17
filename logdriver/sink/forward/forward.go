// Package forward sends records to Fluentd, Fluent Bit and what else speaks
// their Forward protocol, version 1
// (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1).
//
//	forward://host[:24224]    forward+tls://host[:24224]
//
// Records go in PackedForward messages, each of which the server acknowledges
// by the id of its chunk, several being under way. Parameters, beside those of
// all sinks:
//
//	tag               for all records, instead of each container's own
//	compress          gzip: CompressedPackedForward
//	shared-key-file   a file with the key that the server asks for
//	user, password-file   the user that it asks for, and a file with the password
//
// A record is a map. Its time is an EventTime, to the nanosecond. Keys:
//
//	log              the line; of msgpack's type bin where it is not UTF-8
//	source           stdout or stderr
//	id               record id, <stream>-<number>, the same when sent again
//	level            that the application says
//	fields           map: what was lifted out of the line
//	container_id, …  all of field.All that has a value
//	…                the attributes that were asked for
//	cut              true where the record is one piece of a longer line
//
// log, source, container_id and container_name are what the engine's own fluentd
// driver calls them.
package forward

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const defaultPort = "24224"

// maxTag bounds the tag, in bytes.
const maxTag = 1 << 10

type collector struct {
	*wire.Target
	tag      string // "" for the container's
	compress bool
	key      string // file with the shared key, "" for none
	user     string
	password string // file
}

// New returns the sink that u describes.
func New(u *url.URL, host sink.Host) (ship.Sink, error) {
	target, err := wire.ParseTarget(u, host, wire.Spec{
		Schemes: map[string]string{"forward": defaultPort, "forward+tls": defaultPort},
		Params:  []string{"tag", "compress", "shared-key-file", "user", "password-file", "max-message"},
	})
	if err != nil {
		return nil, err
	}
	p := target.Params
	c := &collector{Target: target, tag: p["tag"], key: p["shared-key-file"], user: p["user"], password: p["password-file"]}
	compress, err := target.Choice("compress", "none", "gzip")
	if err != nil {
		return nil, err
	}
	c.compress = compress == "gzip"
	if len(c.tag) > maxTag {
		return nil, &options.ValueError{What: wire.ParamKind, Key: "tag", Value: c.tag[:32] + "…", Err: fmt.Errorf("longer than %d bytes", maxTag)}
	}
	return c, c.checkLogin()
}

func (c *collector) checkLogin() error {
	for _, key := range []string{"shared-key-file", "password-file"} {
		name, given := c.Params[key]
		if !given {
			continue
		}
		if err := c.Host.CheckName(name); err != nil {
			return &options.ValueError{What: wire.ParamKind, Key: key, Value: name, Err: err}
		}
	}
	if (c.user == "") != (c.password == "") {
		return errors.New("user and password-file belong together: give both or none")
	}
	if c.user != "" && c.key == "" {
		return errors.New("a server that asks for a user asks for a shared key, too: give shared-key-file")
	}
	return nil
}

// Limits: a message is one write of as much as a socket buffer takes well, and
// what a server's buffer takes as one chunk.
func (c *collector) Limits() ship.Limits {
	return ship.Limits{BatchBytes: 256 << 10, BatchRecords: 4096, InFlight: 8, RecordBytes: c.MaxLine, MessageBytes: c.MaxMessage}
}

func (c *collector) Prepare(m *ship.Meta) ship.Template { return newTemplate(m, c.tag) }

// Dial connects, and shows the shared key where there is one.
func (c *collector) Dial(ctx context.Context) (ship.Conn, error) {
	login, err := c.login()
	if err != nil {
		return nil, err
	}
	link, err := c.Target.Dial(ctx)
	if err != nil {
		return nil, err
	}
	f, err := newConn(link, c.Timeout, c.compress)
	if err != nil {
		return nil, errors.Join(err, link.Close())
	}
	if login != nil {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		if err := f.greet(ctx, login); err != nil {
			return nil, errors.Join(fmt.Errorf("log in to Forward server: %w", err), link.Close())
		}
	}
	go f.listen()
	return f, nil
}
