package cli

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
)

func (t *target) addr() *cobra.Command {
	return group(&cobra.Command{Use: "addr", Short: "Manage addresses"}, t.addrLs(), t.addrReserve(), t.addrUnreserve(), t.addrReclaim())
}

// addrRow is an address as it is listed.
type addrRow struct {
	Address string `header:"ADDRESS"`
	Network string `header:"NETWORK"`
	State   string `header:"STATE"`
	Holder  string `header:"HOLDER"`
	Host    string `header:"HOST"`
	Until   string `header:"UNTIL,wide"`
	Pool    string `header:"POOL,wide"`

	at netip.Addr
}

func (t *target) addrLs() *cobra.Command {
	var form, of string
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List addresses: who has them, or what they are kept for", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `List addresses: who has them, or what they are kept for.

  given        an endpoint of this host has it, or it is a gateway or set aside
  reserved     for the container with that name or MAC, by docker dockline net addr reserve
  kept         for a while, for the container that had it last
  quarantined  another machine on the wire has it, so it is not given out
  cluster      another host of the cluster has it`,
		Example: `  docker dockline net addr ls
  docker dockline net addr ls --network lan --format '{{.Address}} {{.Holder}}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := t.addresses(cmd.Context(), of)
			if err != nil {
				return err
			}
			return format.List(cmd.OutOrStdout(), form, rows)
		},
	}
	formatFlag(cmd, &form, format.Help)
	cmd.Flags().StringVar(&of, "network", "", "Only those of this network")
	_ = cmd.RegisterFlagCompletionFunc("network", completions(t.networkNames, many))
	return cmd
}

// addresses gathers what this host and the cluster know.
func (t *target) addresses(ctx context.Context, of string) ([]addrRow, error) {
	v, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	only := ""
	if of != "" {
		n, err := v.find(of)
		if err != nil {
			return nil, err
		}
		only = n.ID
	}
	rows := v.given(only)
	networks := v.networksOf()
	var kept []ipam.Reservation
	if err := t.get(ctx, "/addresses/reservations", nil, &kept); err != nil && !unknown(err) {
		return nil, err
	}
	for _, r := range kept {
		one := addrRow{Address: r.Addr.String(), Network: "-", State: "reserved", Holder: r.Key, Host: "-", Until: "-", Pool: r.Pool.String(), at: r.Addr}
		if !r.Until.IsZero() {
			one.State, one.Until = "kept", stamp(r.Until)
		}
		rows = append(rows, networks.put(one, v, r.Pool, only)...)
	}
	var claims []etcd.Claimed
	var cluster etcd.Status
	err = t.get(ctx, "/cluster", nil, &cluster)
	if err == nil {
		err = t.get(ctx, "/claims", nil, &claims)
	}
	if err != nil && !unknown(err) {
		return nil, err
	}
	for _, c := range claims {
		prefix := ipam.PrefixOf(c.Pool)
		if c.Host == cluster.Host {
			continue // what is this host's is known better here
		}
		one := addrRow{Address: c.Addr.String(), Network: "-", State: "cluster", Holder: orDash(c.Key), Host: c.HostName, Until: "-", Pool: c.Pool, at: c.Addr}
		if prefix.IsValid() {
			one.Pool = prefix.String()
		}
		rows = append(rows, networks.put(one, v, prefix, only)...)
	}
	rows = withoutKnown(rows)
	slices.SortStableFunc(rows, func(a, b addrRow) int { return a.at.Compare(b.at) })
	return rows, nil
}

// withoutKnown leaves out that a machine on the wire has an address, where that is
// known to be the gateway, or a container of another host.
func withoutKnown(rows []addrRow) []addrRow {
	type address struct{ network, address string }
	known := map[address]bool{}
	for _, r := range rows {
		known[address{r.Network, r.Address}] = known[address{r.Network, r.Address}] || r.State == "given" || r.State == "cluster"
	}
	return slices.DeleteFunc(rows, func(r addrRow) bool { return r.State == "quarantined" && known[address{r.Network, r.Address}] })
}

// given lists the addresses of networks' pools that are in use, here or by machines
// on the wire.
func (v *view) given(only string) (rows []addrRow) {
	for _, n := range v.Networks {
		if only != "" && n.ID != only {
			continue
		}
		holder := map[netip.Addr]string{}
		for _, e := range n.Endpoints {
			for _, text := range []string{e.IPv4, e.IPv6} {
				if p, err := netip.ParsePrefix(text); err == nil {
					holder[p.Addr()] = v.container(e.ID)
				}
			}
		}
		for _, p := range n.Intended.Pools {
			if p.Gateway.IsValid() && holder[p.Gateway] == "" {
				holder[p.Gateway] = "gateway"
			}
		}
		for _, p := range n.Pools {
			for _, a := range p.Given {
				rows = append(rows, addrRow{a.String(), v.name(n.ID), "given", orDash(holder[a]), "-", "-", p.Prefix.String(), a})
				delete(holder, a)
			}
		}
		for a, who := range holder { // of pools of another IPAM driver
			if who != "gateway" {
				rows = append(rows, addrRow{a.String(), v.name(n.ID), "given", who, "-", "-", "-", a})
			}
		}
		if n.Wire == nil {
			continue
		}
		for _, u := range n.Wire.Used {
			rows = append(rows, addrRow{u.Addr.String(), v.name(n.ID), "quarantined", u.MAC, "-", "-", "-", u.Addr})
		}
	}
	return rows
}

// prefixes are the networks that have a pool.
type prefixes map[netip.Prefix][]string

func (v *view) networksOf() prefixes {
	of := prefixes{}
	for _, n := range v.Networks {
		for _, p := range n.Intended.Pools {
			of[p.Prefix] = append(of[p.Prefix], n.ID)
		}
	}
	return of
}

// put names the network of a row's pool; there is no row where only another one is
// asked for.
func (of prefixes) put(r addrRow, v *view, pool netip.Prefix, only string) []addrRow {
	ids := of[pool]
	if only != "" && !slices.Contains(ids, only) {
		return nil
	}
	var names []string
	for _, id := range ids {
		names = append(names, v.name(id))
	}
	r.Network = orDash(strings.Join(names, ", "))
	return []addrRow{r}
}

// place are the flags that say where an address is.
type place struct{ network, pool string }

func (p *place) flags(t *target, cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.network, "network", "", "Network that has the address")
	cmd.Flags().StringVar(&p.pool, "pool", "", "Subnet that has the address, instead of --network")
	_ = cmd.RegisterFlagCompletionFunc("network", completions(t.networkNames, many))
}

func (p *place) query(ctx context.Context, t *target, address string) (url.Values, error) {
	if _, err := netip.ParseAddr(address); err != nil {
		return nil, fmt.Errorf("%q is not an address, such as 192.168.1.50", address)
	}
	q := url.Values{"address": {address}}
	switch {
	case (p.network == "") == (p.pool == ""):
		return nil, fmt.Errorf("say which network %s is of with --network, or which subnet with --pool", address)
	case p.pool != "":
		q.Set("pool", p.pool)
	default:
		v, err := t.look(ctx)
		if err != nil {
			return nil, err
		}
		n, err := v.find(p.network)
		if err != nil {
			return nil, err
		}
		q.Set("network", n.ID)
	}
	return q, nil
}

func (t *target) addrReserve() *cobra.Command {
	var at place
	var container, mac string
	cmd := &cobra.Command{
		Use: "reserve [OPTIONS] ADDRESS", Short: "Reserve an address for a container", Args: exactly(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Reserve an address for a container, which is known by its name on engines from 29.0
on, and else by the MAC that it is started with. It gets the address at its next
start, and nobody else does. With etcd this holds on all hosts.`,
		Example: `  docker dockline net addr reserve 192.168.1.50 --network lan --name web
  docker dockline net addr reserve 192.168.1.51 --pool 192.168.1.0/24 --mac 02:00:5e:00:53:01`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (container == "") == (mac == "") {
				return fmt.Errorf("say for which container: --name, or --mac")
			}
			q, err := at.query(cmd.Context(), t, args[0])
			if err != nil {
				return err
			}
			if container != "" {
				q.Set("name", container)
			} else {
				q.Set("mac", mac)
			}
			var r ipam.Reservation
			if err := t.change(cmd.Context(), "/addresses/reserve", q, &r); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is reserved for %s\n", r.Addr, r.Pool, r.Key)
			return nil
		},
	}
	at.flags(t, cmd)
	cmd.Flags().StringVar(&container, "name", "", "Name of the container")
	cmd.Flags().StringVar(&mac, "mac", "", "MAC that the container is started with")
	return cmd
}

func (t *target) addrUnreserve() *cobra.Command {
	var at place
	cmd := &cobra.Command{
		Use: "unreserve [OPTIONS] ADDRESS", Short: "Take a reservation back", Args: exactly(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  docker dockline net addr unreserve 192.168.1.50 --network lan",
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := at.query(cmd.Context(), t, args[0])
			if err != nil {
				return err
			}
			var answer any
			if err := t.change(cmd.Context(), "/addresses/unreserve", q, &answer); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is not reserved any more\n", args[0])
			return nil
		},
	}
	at.flags(t, cmd)
	return cmd
}

// hosts are those of the cluster that are lost.
func (t *target) hosts(ctx context.Context) (ids []string, err error) {
	var s etcd.Status
	err = t.get(ctx, "/cluster", nil, &s)
	for _, h := range s.Hosts {
		if !h.Alive {
			ids = append(ids, h.Host)
		}
	}
	return ids, err
}

func (t *target) addrReclaim() *cobra.Command {
	return &cobra.Command{
		Use: "reclaim HOST", Short: "Take back the addresses of a host of the cluster that is lost for good", Args: exactly(1),
		ValidArgsFunction: completions(t.hosts, 1),
		Long: `Take back the addresses of a host of the cluster that is lost for good. HOST is its
name or ID. It is refused for a host that is alive. Reclaim only what will not come
back with its containers running: one that is merely cut off goes on using them.`,
		Example: "  docker dockline net addr reclaim rack1",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s etcd.Status
			if err := t.get(cmd.Context(), "/cluster", nil, &s); unknown(err) {
				return fmt.Errorf("this host is in no cluster (--ipam-opt backend=etcd): there is nobody's to reclaim")
			} else if err != nil {
				return err
			}
			id := args[0]
			var same []string
			for _, h := range s.Hosts {
				if h.HostName == args[0] {
					same = append(same, h.Host)
				}
			}
			if len(same) == 1 {
				id = same[0]
			} else if len(same) > 1 {
				return fmt.Errorf("%d hosts are called %s; say which by ID: %s", len(same), args[0], strings.Join(same, ", "))
			}
			var answer struct{ Reclaimed []etcd.Claimed }
			if err := t.change(cmd.Context(), "/reclaim", url.Values{"host": {id}}, &answer); err != nil {
				return err
			}
			for _, c := range answer.Reclaimed {
				fmt.Fprintln(cmd.OutOrStdout(), c.Addr)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d addresses of %s are free\n", len(answer.Reclaimed), args[0])
			return nil
		},
	}
}
