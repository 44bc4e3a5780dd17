package admin

import (
	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/internal/metric"
)

// Metrics are all that the plugin has. Networks and endpoints are labelled with
// their ids as the docker command shows them. None has a label per container but
// those of the last group, which are served where METRICS_PER_CONTAINER asks for
// them.
var Metrics = metric.New("dockline_net_",
	metric.Group{Title: "The plugin", Metrics: []metric.Metric{
		{Name: "build_info", Type: metric.Gauge, Labels: build.Labels(), Help: "1 for the build that runs.", Do: "Compare hosts with each other; join it to others by `instance`."},
		{Name: "refusing", Type: metric.Gauge, Help: "1 while all calls are refused, for the state is damaged or a setting cannot be read.", Do: "The engine's log names the file or the setting: put a copy of the file back, or remove it and make the networks again, or set it right; then enable the plugin."},
		{Name: "call_duration_seconds", Type: metric.Histogram, Labels: []string{"call"}, Help: "How long calls of the engine took.", Do: "They are part of `docker run`, and take milliseconds."},
		{Name: "call_errors_total", Type: metric.Counter, Labels: []string{"call"}, Help: "Calls of the engine that ended in an error.", Do: "The user of `docker` has seen it; the engine's log has it too."},
	}},
	metric.Group{Title: "Networks", Metrics: []metric.Metric{
		{Name: "endpoints", Type: metric.Gauge, Labels: []string{"network", "state"}, Help: "Endpoints by whether they are in a sandbox: joined, created."},
		{Name: "differences", Type: metric.Gauge, Labels: []string{"network"}, Help: "What is not as it is meant to be, of a network and its endpoints.", Do: "More than 0 for minutes is wrong; `docker dockline net check` says in words what it is."},
		{Name: "strays", Type: metric.Gauge, Help: "Links of ours that belong to nothing that is known.", Do: "The next reconcile removes them, but for those in sandboxes."},
		{Name: "network_rx_bytes_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Bytes received, of a network's bridge, or parent: the kernel's count."},
		{Name: "network_rx_packets_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Packets received, of a network's bridge, or parent: the kernel's count."},
		{Name: "network_rx_errors_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Packets that could not be received, of a network's bridge, or parent: the kernel's count.", Do: "A cable, a NIC or a driver."},
		{Name: "network_rx_dropped_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Packets received that were dropped, of a network's bridge, or parent: the kernel's count.", Do: "A queue is full, or nobody wanted them."},
		{Name: "network_tx_bytes_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Bytes sent, of a network's bridge, or parent: the kernel's count."},
		{Name: "network_tx_packets_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Packets sent, of a network's bridge, or parent: the kernel's count."},
		{Name: "network_tx_errors_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Packets that could not be sent, of a network's bridge, or parent: the kernel's count.", Do: "A cable, a NIC or a driver."},
		{Name: "network_tx_dropped_total", Type: metric.Counter, Labels: []string{"network", "link"}, Help: "Packets to be sent that were dropped, of a network's bridge, or parent: the kernel's count.", Do: "A queue is full, or nobody wanted them."},
	}},
	metric.Group{Title: "Addresses", Metrics: []metric.Metric{
		{Name: "pool_addresses", Type: metric.Gauge, Labels: []string{"network", "pool", "state"}, Help: "Addresses of a pool: given (the gateway too), kept in reserve as known to be free, and in use by other machines (quarantined).", Do: "Quarantined ones are on the LAN already: choose another `--ip-range`."},
		{Name: "pool_size", Type: metric.Gauge, Labels: []string{"network", "pool"}, Help: "Addresses that containers of this host can have: its part of the range, without what is the subnet's own.", Do: "Where a DHCP server chooses it is not known, nor is what is free."},
		{Name: "pool_free", Type: metric.Gauge, Labels: []string{"network", "pool"}, Help: "Addresses of these that a container could get now.", Do: "0: no container starts that does not come back to the address it had. While etcd is away it is what this host has in reserve."},
		{Name: "conflicts", Type: metric.Gauge, Labels: []string{"network"}, Help: "Addresses of endpoints that another machine has as well.", Do: "Both lose connections. `docker dockline net check` has the other MAC."},
		{Name: "conflicts_total", Type: metric.Counter, Help: "Conflicts that began: another machine has the address of an endpoint."},
		{Name: "wire_watched", Type: metric.Gauge, Labels: []string{"network"}, Help: "Whether the network's wire can be looked at.", Do: "0: the parent is missing, down or without a carrier; addresses are given unasked."},
		{Name: "wire_questions_total", Type: metric.Counter, Help: "ARP probes and neighbour solicitations sent."},
		{Name: "wire_announcements_total", Type: metric.Counter, Help: "Addresses of endpoints announced."},
		{Name: "wire_addresses_found_total", Type: metric.Counter, Help: "Addresses of our pools that were found in use by other machines."},
		{Name: "wire_events_total", Type: metric.Counter, Labels: []string{"event"}, Help: "What happened to addresses on the wires: quarantined, freed, conflict, settled.", Do: "`/events` has the last of them."},
	}},
	metric.Group{Title: "Addresses of a cluster", Metrics: []metric.Metric{
		{Name: "cluster_up", Type: metric.Gauge, Help: "Whether etcd answers.", Do: "0: addresses come from this host's reserve. `/cluster` says what is wrong with etcd."},
		{Name: "cluster_lost_total", Type: metric.Counter, Help: "How often etcd ceased to answer."},
		{Name: "cluster_claims_total", Type: metric.Counter, Labels: []string{"result"}, Help: "Claims of addresses: claimed, offline (from what was this host's already), taken by others, failed because nobody could be asked.", Do: "Failed ones are containers that did not start."},
		{Name: "cluster_reserve", Type: metric.Gauge, Help: "Addresses that this host has for when etcd is away.", Do: "0 while etcd is away: containers do not start."},
		{Name: "cluster_hosts", Type: metric.Gauge, Labels: []string{"state"}, Help: "Hosts of the cluster by whether they are alive.", Do: "Addresses of lost ones stay theirs until they are reclaimed, see [addresses.md](addresses.md)."},
		{Name: "cluster_conflicts", Type: metric.Gauge, Help: "Addresses in use here that are another host's in etcd.", Do: "Two hosts have it: `/cluster` says which container is to go."},
		{Name: "cluster_conflicts_total", Type: metric.Counter, Help: "How often one was found."},
		{Name: "cluster_quarantined", Type: metric.Gauge, Help: "Addresses that no host gives out because a machine has them that got them from nobody.", Do: "A machine on the LAN was given it by hand, or by another DHCP server."},
		{Name: "cluster_quarantined_total", Type: metric.Counter, Help: "How many this host put there."},
		{Name: "cluster_leaked_total", Type: metric.Counter, Help: "Addresses of this host given back that nobody here knew."},
		{Name: "cluster_reclaimed_total", Type: metric.Counter, Help: "Addresses of lost hosts that were reclaimed here."},
	}},
	metric.Group{Title: "Leases of DHCP servers", Metrics: []metric.Metric{
		{Name: "dhcp_leases", Type: metric.Gauge, Labels: []string{"network", "state"}, Help: "Leases of DHCP servers by what they are: bound, idle (the container has ended and may come back), lost.", Do: "A container whose lease is lost goes on with an address that the server may give to others: `docker dockline net check` says which and why, see [dhcp.md](dhcp.md)."},
		{Name: "dhcp_events_total", Type: metric.Counter, Labels: []string{"event"}, Help: "What happened to leases of DHCP servers: leased, resumed, renewed, server_changed, refused, declined, lost, released, unanswered.", Do: "Unanswered and refused ones are containers that did not start. The log names server and address."},
	}},
	metric.Group{Title: "Reconcile", Metrics: []metric.Metric{
		{Name: "reconcile_duration_seconds", Type: metric.Histogram, Help: "How long reconciles took."},
		{Name: "reconcile_errors_total", Type: metric.Counter, Help: "Reconciles that ended in an error.", Do: "The engine's log says which network, and why."},
		{Name: "reconcile_actions_total", Type: metric.Counter, Labels: []string{"action"}, Help: "What reconciles put right: repaired, adopted, abandoned, released.", Do: "After a crash or a reboot that is its work. Else somebody, or something, undoes what dockline-net makes."},
		{Name: "reconcile_last_timestamp_seconds", Type: metric.Gauge, Help: "When the last reconcile ended, in seconds since 1970.", Do: "It runs every 30 s."},
	}},
	metric.Group{Title: "Each endpoint", Metrics: []metric.Metric{
		{Name: "endpoint_rx_bytes_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Bytes received, of an endpoint's link in its sandbox, as the container sees it: the kernel's count."},
		{Name: "endpoint_rx_packets_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Packets received, of an endpoint's link in its sandbox, as the container sees it: the kernel's count."},
		{Name: "endpoint_rx_errors_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Packets that could not be received, of an endpoint's link in its sandbox, as the container sees it: the kernel's count."},
		{Name: "endpoint_rx_dropped_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Packets received that were dropped, of an endpoint's link in its sandbox, as the container sees it: the kernel's count.", Do: "A queue is full, or nobody wanted them."},
		{Name: "endpoint_tx_bytes_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Bytes sent, of an endpoint's link in its sandbox, as the container sees it: the kernel's count."},
		{Name: "endpoint_tx_packets_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Packets sent, of an endpoint's link in its sandbox, as the container sees it: the kernel's count."},
		{Name: "endpoint_tx_errors_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Packets that could not be sent, of an endpoint's link in its sandbox, as the container sees it: the kernel's count."},
		{Name: "endpoint_tx_dropped_total", Type: metric.Counter, Labels: []string{"network", "endpoint"}, Help: "Packets to be sent that were dropped, of an endpoint's link in its sandbox, as the container sees it: the kernel's count.", Do: "A queue is full, or nobody wanted them."},
		{Name: "endpoints_left_out", Type: metric.Gauge, Help: "Endpoints without metrics of their own, for there are more than a thousand."},
	}},
	metric.Group{Title: "Gateways and peers", Metrics: []metric.Metric{
		{Name: "probe_rtt_seconds", Type: metric.Histogram, Labels: []string{"network", "peer", "protocol"}, Help: "Round trips to gateways and peers that answered, by arp, nd (neighbour discovery) or icmp (echo); served where PROBE_INTERVAL is set.", Do: "What the wire and the other machine take, and this plugin: compare a target with itself. Slow icmp beside a quick arp is the peer's own load."},
		{Name: "probe_sent_total", Type: metric.Counter, Labels: []string{"network", "peer", "protocol"}, Help: "Questions to gateways and peers, also those that could not be sent."},
		{Name: "probe_lost_total", Type: metric.Counter, Labels: []string{"network", "peer", "protocol"}, Help: "Questions without an answer within a second, or that could not be sent, for the parent is missing or down.", Do: "All of them: the target is off, or the wire is cut. Some: look at the cable, and at both ends' `network_rx_errors_total`. Icmp only: a firewall of the target's."},
		{Name: "probe_last_success_timestamp_seconds", Type: metric.Gauge, Labels: []string{"network", "peer", "protocol"}, Help: "When the target last answered, in seconds since 1970; not there before it did."},
		{Name: "probe_jitter_seconds_total", Type: metric.Counter, Labels: []string{"network", "peer", "protocol"}, Help: "Sum of the differences between one round trip and the next.", Do: "Divided by the samples it is the mean jitter: recorded as `network_peer:dockline_net_probe_jitter_seconds:mean5m`."},
		{Name: "probe_jitter_samples_total", Type: metric.Counter, Labels: []string{"network", "peer", "protocol"}, Help: "How many such differences there are; none across a question that was lost."},
		{Name: "probe_targets", Type: metric.Gauge, Help: "Gateways and peers that are asked, each protocol for itself."},
		{Name: "probe_targets_left_out", Type: metric.Gauge, Help: "Those that are not, for there are more than a thousand.", Do: "Gateways come first, in the order of the networks' ids."},
		{Name: "probe_interval_seconds", Type: metric.Gauge, Help: "How often each is asked.", Do: "It is more than PROBE_INTERVAL where four ARP packets a second, or ten of another protocol, do not do."},
	}},
)
