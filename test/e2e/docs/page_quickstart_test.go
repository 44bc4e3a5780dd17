package docs_test

import "strings"

// quickstart begins anew for each use.
var quickstart = page{
	"logs-to-syslog": {
		given: func(*world) {},
		shown: func(w *world, printed []string) {
			w.contains(printed[1], "10.0.0.11:2514")
			// It is acknowledged when it is in a queue, and in the file soon after.
			w.awaits("nothing comes to rsyslog's file", func() bool {
				return strings.Contains(w.logs.read("/var/log/containers"), "hello from a container")
			})
		},
	},
	"logs-to-loki": {
		given: func(w *world) { w.loki("10.0.0.11:3100") },
		shown: func(w *world, printed []string) { w.contains(printed[0], `"hello from a container"`) },
	},
	"logs-to-elasticsearch": {
		given: func(w *world) {
			w.elastic("10.0.0.11:9200")
			w.elastic("10.0.0.12:9200", "ApiKey a2V5")
			w.rack1.write(w.rack1.tree()+"/ca.pem", string(w.authority.PEM))
			w.rack1.write(w.rack1.tree()+"/elastic.key", "a2V5\n")
		},
		shown: func(w *world, printed []string) {
			w.contains(printed[0], `"message":"hello from a container"`)
			w.rack1.Docker("run", "--rm", "--name", "secret", "--log-driver", "dockline-log", "alpine", "echo", "with a key")
			w.contains(w.rack1.sh("docker dockline log drain --timeout 30s && docker dockline log where secret"), "logs.example:9200")
		},
	},
	"logs-to-kafka": {
		given: func(w *world) { w.kafka("10.0.0.11:9092") },
		shown: func(w *world, printed []string) { w.contains(printed[0], "hello from a container") },
	},
	"then-all-containers": {
		goesOn: true,
		given: func(w *world) {
			w.collectors("relp://10.0.0.11:2514", "relp://10.0.0.12:2514", "relp://10.0.0.13:2514")
		},
		shown: func(w *world, _ []string) {
			w.rack1.Docker("run", "--rm", "--name", "plain", "alpine", "echo", "by the engine's own default")
			w.arrives("", "plain", "default")
		},
	},
	"macvlan-at-home": {
		given: func(*world) {},
		shown: func(w *world, _ []string) {
			w.serves("192.168.1.200")
			if said, err := w.rack1.fetch("http://192.168.1.200"); err != nil || said != "hello" {
				w.Errorf("the host does not find the container: %q, %v", said, err)
			}
		},
	},
	"a-bridge-in-a-rack": {
		given: func(*world) {},
		shown: func(w *world, _ []string) {
			for _, address := range w.addresses("web") {
				w.logs.answers(address)
			}
		},
	},
	"a-cluster-with-etcd": {
		given: func(w *world) { w.etcd() },
		shown: func(w *world, _ []string) { w.logs.answers(w.addresses("web")[0]) },
	},
	"addresses-from-dhcp": {
		given: func(w *world) { w.dhcp() },
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "192.168.1.1")
			w.logs.answers(w.addresses("web")[0])
		},
	},
	"away-with-it": {
		given: func(w *world) {
			w.install("dockline-log")
			w.install("dockline-net")
		},
		shown: func(w *world, _ []string) {
			if left := w.rack1.Docker("plugin", "ls", "-q"); left != "" {
				w.Errorf("there are still plugins: %s", left)
			}
		},
	},
}
