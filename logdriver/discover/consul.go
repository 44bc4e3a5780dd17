package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-cleanhttp"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/route"
)

// Keys of a Consul service's metadata that we read.
const (
	consulName   = "dockline-name"
	consulWeight = "dockline-weight"
)

// consulClient is how to reach a Consul.
type consulClient struct {
	conf       api.Config
	address    string
	datacenter string
	tokenFile  string // files; "" for none
	ca         string
	files      hostfile.Places
}

// newConsulClient takes its parameters from u's query.
func newConsulClient(u *url.URL, host Host) (consulClient, error) {
	c := consulClient{address: u.Host, datacenter: take(u, "consul-dc"), tokenFile: take(u, "consul-token-file"), ca: take(u, "consul-ca"), files: host.files()}
	scheme := "http"
	switch tls := take(u, "consul-tls"); tls {
	case "", "off":
	case "on":
		scheme = "https"
	default:
		return c, fmt.Errorf("consul-tls=%q is neither on nor off", tls)
	}
	c.conf = api.Config{Address: c.address, Scheme: scheme, Datacenter: c.datacenter}
	token, err := c.token()
	if err != nil {
		return c, err
	}
	_, done, err := c.open(token)
	if err != nil {
		return c, err
	}
	done()
	return c, nil
}

// token reads the file, which may have changed.
func (c *consulClient) token() (string, error) {
	if c.tokenFile == "" {
		return "", nil
	}
	token, err := c.files.Read(c.tokenFile, maxFile)
	if err != nil {
		return "", fmt.Errorf("consul-token-file: %w", err)
	}
	return strings.TrimSpace(string(token)), nil
}

// open makes a client. It reads the authority's file, which may have changed.
func (c *consulClient) open(token string) (client *api.Client, done func(), err error) {
	conf := c.conf
	conf.Token = token
	if c.ca != "" {
		if conf.TLSConfig.CAPem, err = c.files.Read(c.ca, maxFile); err != nil {
			return nil, nil, fmt.Errorf("consul-ca: %w", err)
		}
	}
	transport := cleanhttp.DefaultPooledTransport()
	transport.MaxResponseHeaderBytes = maxHeaders
	if conf.HttpClient, err = api.NewHttpClient(transport, conf.TLSConfig); err != nil {
		return nil, nil, fmt.Errorf("consul-ca: %s: %w", c.ca, err)
	}
	conf.HttpClient.Transport = bounded{transport}
	if client, err = api.NewClient(&conf); err != nil {
		return nil, nil, fmt.Errorf("make a client of Consul: %w", err)
	}
	return client, transport.CloseIdleConnections, nil
}

// consul is a source that follows the healthy instances of a Consul service.
type consul struct {
	consulClient
	url     *url.URL // of its members, but for the host
	service string
	tag     string
}

func newConsul(u *url.URL, host Host) (Source, error) {
	c := &consul{url: u, service: strings.Trim(u.Path, "/"), tag: take(u, "consul-tag")}
	if u.Host == "" || c.service == "" || u.Scheme == "" || strings.Contains(c.service, "/") {
		return nil, errors.New("not of the form consul+SCHEME://host:port/service")
	}
	var err error
	c.consulClient, err = newConsulClient(u, host)
	return c, err
}

func (c *consul) String() string {
	u := *c.url
	u.Host, u.Path = c.address, "/"+c.service
	tag := ""
	if c.tag != "" {
		tag = " with tag " + c.tag
	}
	return "consul+" + redact.URL(&u) + tag
}

func (c *consul) ID() string {
	return fmt.Sprintf("consul %s %s/%s %s %s %s", c.address, c.datacenter, c.service, c.tag, c.tokenFile, c.url)
}

// Example implements Described.
func (c *consul) Example() Collector { return member(c.url, exampleHost, 1) }

// How long Consul may keep a blocking query, and how long it may take for all
// else. It adds up to a sixteenth to the former (api-docs/features/blocking).
const (
	consulWait    = 5 * time.Minute
	consulTimeout = 10 * time.Second
	// consulPause parts two questions: a service that changes all the time, or
	// something between that answers at once, must not be asked at full speed.
	consulPause = 250 * time.Millisecond
)

// follow asks with blocking queries: the answer comes when there is another one.
// ask waits for another answer than that of the options' index. Errors do not repeat
// the token, though Consul may.
func (c *consulClient) follow(ctx context.Context, ask func(*api.Client, *api.QueryOptions) (*api.QueryMeta, error), changed func() error) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	client, done, err := c.open(token)
	if err != nil {
		return err
	}
	defer done()
	return redact.Error(c.poll(ctx, client, ask, changed), token)
}

func (c *consulClient) poll(ctx context.Context, client *api.Client, ask func(*api.Client, *api.QueryOptions) (*api.QueryMeta, error), changed func() error) error {
	var index uint64
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(consulPause):
			}
		}
		patience := consulTimeout
		if index > 0 {
			patience += consulWait + consulWait/16
		}
		actx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("no answer in time"))
		meta, err := ask(client, (&api.QueryOptions{WaitIndex: index, WaitTime: consulWait}).WithContext(actx))
		cancel()
		if err != nil {
			return err
		}
		switch {
		case meta.LastIndex < index && index > 1: // Consul was restored: the index begins anew
			index = 0
			continue
		case meta.LastIndex == index && index > 0:
			continue
		}
		index = max(meta.LastIndex, 1)
		if err := changed(); err != nil {
			return err
		}
	}
}

// Follow implements Source.
func (c *consul) Follow(ctx context.Context, set func([]Collector)) error {
	var entries []*api.ServiceEntry
	ask := func(client *api.Client, opts *api.QueryOptions) (meta *api.QueryMeta, err error) {
		if entries, meta, err = client.Health().Service(c.service, c.tag, true, opts); err != nil {
			err = fmt.Errorf("ask Consul for service %s: %w", c.service, err)
		}
		return meta, err
	}
	return c.follow(ctx, ask, func() error {
		members, err := c.members(entries)
		if err == nil {
			set(members)
		}
		return err
	})
}

func (c *consul) members(entries []*api.ServiceEntry) ([]Collector, error) {
	if len(entries) > maxMembers {
		return nil, tooMany(len(entries))
	}
	var members []Collector
	for _, e := range entries {
		host := e.Service.Address
		if host == "" {
			host = e.Node.Address
		}
		m := member(c.url, net.JoinHostPort(host, strconv.Itoa(e.Service.Port)), uint32(min(max(e.Service.Weights.Passing, 1), route.MaxWeight)))
		if name := e.Service.Meta[consulName]; name != "" {
			m.Name = name
		}
		if w, ok := e.Service.Meta[consulWeight]; ok {
			n, err := strconv.ParseUint(w, 10, 32)
			if err != nil || n > route.MaxWeight {
				return nil, fmt.Errorf("instance %s of Consul's service %s: %s=%q is not a whole number in 0..%d", e.Service.ID, c.service, consulWeight, w, route.MaxWeight)
			}
			m.Weight = uint32(n)
		}
		members = append(members, m)
	}
	return sorted(members), nil
}
