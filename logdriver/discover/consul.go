package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/dockline/dockline/logdriver/route"
)

// Keys of a Consul service's metadata that we read.
const (
	consulName   = "dockline-name"
	consulWeight = "dockline-weight"
)

// consul is a source that follows the healthy instances of a Consul service.
type consul struct {
	url        *url.URL // of its members, but for the host
	client     *api.Client
	address    string
	service    string
	datacenter string
	tag        string
	tokenFile  string
}

func newConsul(u *url.URL, host Host) (Source, error) {
	c := &consul{url: u, address: u.Host, service: strings.Trim(u.Path, "/"), datacenter: take(u, "consul-dc"), tag: take(u, "consul-tag"), tokenFile: take(u, "consul-token-file")}
	if c.tokenFile != "" {
		c.tokenFile = host.path(c.tokenFile)
	}
	ca := take(u, "consul-ca")
	if ca != "" {
		ca = host.path(ca)
	}
	if c.address == "" || c.service == "" || u.Scheme == "" || strings.Contains(c.service, "/") {
		return nil, errors.New("not of the form consul+SCHEME://host:port/service")
	}
	scheme := "http"
	switch tls := take(u, "consul-tls"); tls {
	case "", "off":
	case "on":
		scheme = "https"
	default:
		return nil, fmt.Errorf("consul-tls=%q is neither on nor off", tls)
	}
	conf := api.Config{Address: c.address, Scheme: scheme, Datacenter: c.datacenter, TokenFile: c.tokenFile,
		TLSConfig: api.TLSConfig{CAFile: ca}}
	if c.tokenFile != "" {
		if _, err := os.Stat(c.tokenFile); err != nil {
			return nil, fmt.Errorf("consul-token-file: %w", err)
		}
	}
	var err error
	if c.client, err = api.NewClient(&conf); err != nil {
		return nil, fmt.Errorf("make a client of Consul: %w", err)
	}
	return c, nil
}

func (c *consul) String() string {
	u := *c.url
	u.Host, u.Path = c.address, "/"+c.service
	tag := ""
	if c.tag != "" {
		tag = " with tag " + c.tag
	}
	return "consul+" + u.Redacted() + tag
}

func (c *consul) ID() string {
	return fmt.Sprintf("consul %s %s/%s %s %s %s", c.address, c.datacenter, c.service, c.tag, c.tokenFile, c.url)
}

// Follow asks with blocking queries: the answer comes when there is another one.
func (c *consul) Follow(ctx context.Context, set func([]Collector)) error {
	var index uint64
	for {
		opts := (&api.QueryOptions{WaitIndex: index, RequireConsistent: false}).WithContext(ctx)
		entries, meta, err := c.client.Health().Service(c.service, c.tag, true, opts)
		if err != nil {
			return fmt.Errorf("ask Consul for service %s: %w", c.service, err)
		}
		switch {
		case meta.LastIndex < index: // Consul was restored: the index begins anew
			index = 0
			continue
		case meta.LastIndex == index:
			continue
		}
		index = max(meta.LastIndex, 1)
		members, err := c.members(entries)
		if err != nil {
			return err
		}
		set(members)
	}
}

func (c *consul) members(entries []*api.ServiceEntry) ([]Collector, error) {
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
