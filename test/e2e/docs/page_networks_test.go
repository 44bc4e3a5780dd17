package docs_test

import (
	"fmt"
	"regexp"
	"strings"
)

// lanWith has a host have a network with containers on it, and both plugins.
func (w *world) lanWith(names ...string) {
	w.Helper()
	w.collectors("relp://10.0.0.11:2514")
	w.install("dockline-log", "COLLECTORS=relp://10.0.0.11:2514")
	w.install("dockline-net")
	w.network("lan", "eth0")
	w.webs(names)
}

var networks = page{
	"dockline-net-networks": {
		given: func(w *world) { w.install("dockline-net") },
		shown: func(w *world, _ []string) {
			w.serves("192.168.1.200")
			w.rack1.Docker("network", "inspect", "dmz", "backstage")
		},
	},
	"the-hosts-addresses-on-a-bridge": {
		given: func(w *world) { w.install("dockline-net") },
		shown: func(w *world, printed []string) {
			w.rack1.Docker("run", "-d", "--name", "web", "--network", "lan", "nginx")
			w.logs.answers("192.168.1.2")
			w.logs.answers(w.addresses("web")[0])
			w.rack1.Docker("rm", "-f", "web")
			w.rack1.Docker("network", "rm", "lan")
			w.contains(w.rack1.sh("ip -br address show eth0"), "192.168.1.2/24")
		},
	},
	"looking-in": {
		given: func(w *world) { w.lanWith("web") },
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "all is as it is meant to be")
			for _, want := range []string{`"differences": 0`, "dockline_net_build_info", "ok"} {
				w.contains(printed[1], want)
			}
		},
	},
}

const members = "ETCD_ENDPOINTS=http://10.0.0.21:2379,http://10.0.0.22:2379,http://10.0.0.23:2379"

var addresses = page{
	"dockline-net-addresses-of-a-cluster": {
		given: func(w *world) {
			w.etcd()
			w.install("dockline-net", members)
		},
		shown: func(w *world, _ []string) {
			w.rack1.Docker("run", "-d", "--name", "web", "--network", "lan", "nginx")
			w.logs.answers(w.addresses("web")[0])
			w.contains(w.rack1.sh("docker dockline net addr ls"), "given")
		},
	},
	"a-host-that-is-lost-for-good": {
		given: func(w *world) { w.lost() },
		shown: func(w *world, printed []string) {
			w.contains(printed[0], `"alive": false`)
			w.contains(printed[0], "addresses of rack1 are free")
		},
	},
	"reservations": {
		given: func(w *world) { w.lanWith() },
		shown: func(w *world, printed []string) { w.contains(printed[0], "192.168.1.51") },
	},
}

// lost has the cluster miss a host that was called rack1: this machine, before it
// was installed anew, as rack2.
func (w *world) lost() {
	w.Helper()
	w.etcd()
	w.install("dockline-net", members)
	w.rack1.Docker("network", "create", "-d", "dockline-net:latest", "--ipam-driver", "dockline-net:latest",
		"--subnet", "192.168.1.0/24", "--gateway", "192.168.1.1", "-o", "parent=eth0", "--ipam-opt", "backend=etcd", "--ipam-opt", "reserve=4", "lan")
	w.rack1.Docker("plugin", "disable", "-f", "dockline-net")
	w.rack1.Docker("plugin", "rm", "-f", "dockline-net")
	w.rack1.sh("for link in $(ls /sys/class/net | grep ^dl); do ip link delete $link; done") // they are gone with a host
	// The half a minute until its lease ends is over.
	w.logs.sh(`curl -sS -d '{}' http://10.0.0.21:2379/v3/lease/leases | grep -o '"ID":"[0-9]*"' | tr -dc '0-9\n' | while read -r id; do
		curl -sS --fail -d "{\"ID\": \"$id\"}" http://10.0.0.21:2379/v3/lease/revoke; done`)
	w.install("dockline-net", members, "HOST_NAME=rack2")
}

var leases = page{
	"dockline-net-addresses-from-a-dhcp-server": {
		given: func(w *world) {
			w.dhcp()
			w.install("dockline-net")
		},
		shown: func(w *world, _ []string) {
			for _, name := range []string{"web", "web1"} {
				w.logs.answers(w.addresses(name)[0])
			}
		},
	},
}

// pair is the network of the page on traces, and two containers.
func (w *world) pair() {
	w.Helper()
	w.install("dockline-net")
	w.rack1.Docker("network", "create", "-d", "dockline-net:latest", "--ipam-driver", "dockline-net:latest",
		"--subnet", "198.51.100.0/24", "--gateway", "198.51.100.254", "--ip-range", "198.51.100.16/30", "-o", "mode=bridge", "-o", "uplink=eth1", "lan")
	for i, name := range []string{"web", "db"} {
		w.rack1.Docker("run", "-d", "--name", name, "--network", "lan", "--ip", fmt.Sprintf("198.51.100.%d", 16+i), "nginx")
	}
}

var reaches = regexp.MustCompile(`(?m)^A reaches B: `)

var traces = page{
	"why-does-a-not-reach-b": {
		given: func(w *world) { w.pair() },
		shown: func(w *world, printed []string) {
			for i, want := range []int{2, 2} { // beside what is JSON
				if n := len(reaches.FindAllString(printed[i], -1)); n != want {
					w.Errorf("%d of %d traces say that A reaches B:\n%s", n, want, printed[i])
				}
			}
		},
	},
	"an-example": {
		given: func(w *world) {
			w.pair()
			w.rack1.sh(`nsenter --net=/proc/"$(docker inspect -f '{{.State.Pid}}' db)"/ns/net iptables -A INPUT -p icmp -j DROP`)
		},
	},
}

var operations = page{
	"upgrading": {
		given: func(w *world) {
			w.registry("NEW")
			w.rack1.sh("mkdir -p /data/logs")
			w.collectors("relp://10.0.0.11:2514")
			w.install("dockline-log", "COLLECTORS=relp://10.0.0.11:2514", "spool.source=/data/logs")
			w.rack1.Docker("run", "-d", "--name", "web", "--log-driver", "dockline-log", "nginx")
			w.arrives("", "web", "nginx is ready")
		},
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "spool.source=/data/logs")
			w.contains(w.rack1.Docker("plugin", "inspect", "-f", "{{.PluginReference}}", "dockline-log"), "NEW")
			w.contains(w.rack1.Docker("logs", "web"), "nginx is ready")
			w.rack1.Docker("run", "--name", "after", "--log-driver", "dockline-log", "alpine", "echo", "by the newer one")
			w.arrives("", "after", "newer")
		},
	},
	"state-and-backups": {
		given: func(w *world) { w.install("dockline-net") },
		shown: func(w *world, printed []string) {
			w.rack1.sh(`ls "$1/networks.db"`, strings.TrimSpace(printed[0]))
		},
	},
	"log-files-inside-containers": {
		given: func(w *world) {
			w.collectors("relp://10.0.0.11:2514")
			w.install("dockline-log", "COLLECTORS=relp://10.0.0.11:2514")
		},
		shown: func(w *world, _ []string) {
			w.arrives("", w.rack1.Docker("ps", "--filter", "name=app-log", "--format", "{{.Names}}"), "a line of a file")
		},
	},
}

// refused has a docker command end in an error that says this.
func (w *world) refused(says string, args ...string) {
	w.Helper()
	ctx, cancel := w.rack1.context()
	defer cancel()
	if out, err := w.rack1.Engine.Run(ctx, args...); err == nil || !strings.Contains(err.Error(), says) {
		w.Errorf("docker %q says %q, %v, without %q", args, out, err, says)
	}
}

var troubles = page{
	"troubleshooting": {
		given: func(w *world) { w.lanWith("web", "db") },
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "1 of 1 healthy")
			w.contains(printed[0], "all is as it is meant to be")
		},
	},
	"a-plugin-does-not-start": {
		given: func(w *world) {
			w.install("dockline-log", "METRICS=9741")
			w.install("dockline-net", "METRICS=9742")
			w.refused(`METRICS="9741"`, "run", "--log-driver", "dockline-log", "alpine", "true")
			w.refused(`METRICS="9742"`, "network", "create", "-d", "dockline-net:latest", "-o", "parent=eth0", "lan")
			w.refused(`METRICS="9742"`, "network", "create", "-d", "dockline-net:latest", "--ipam-driver", "dockline-net:latest", "-o", "parent=eth0", "lan")
		},
		shown: func(w *world, _ []string) { w.network("lan", "eth0") },
	},
	"docker-plugin-disable-plugin-is-in-use": {
		given: func(w *world) { w.lanWith("web", "db") },
		shown: func(w *world, printed []string) { w.contains(printed[0], "/web dockline-log") },
	},
	"nothing-arrives": {
		goesOn: true,
		given:  func(*world) {},
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "nginx is ready")
			w.contains(printed[0], "10.0.0.11:2514")
		},
	},
	"a-does-not-reach-b": {
		goesOn: true,
		given:  func(*world) {},
		shown:  func(w *world, printed []string) { w.contains(printed[0], "A reaches B") },
	},
}
