package docs_test

import "strings"

var readme = page{
	"install": {
		given: func(*world) {},
		shown: func(w *world, _ []string) {
			w.enabled("dockline-log", "dockline-net")
			w.contains(w.rack1.Docker("plugin", "inspect", "-f", "{{.Settings.Env}}", "dockline-log"), "COLLECTORS=relp://10.0.0.11:2514")
		},
	},
	"from-a-registry": {
		given: func(w *world) { w.registry("latest") },
		shown: func(w *world, _ []string) { w.enabled("dockline-log", "dockline-net") },
	},
	"use-logs": {
		given: func(w *world) {
			w.collectors("relp://10.0.0.11:2514", "relp://10.0.0.12:2514", "json+tcp://10.0.0.21:5170", "json+tcp://10.0.0.22:5170")
			w.install("dockline-log", "COLLECTORS=relp://10.0.0.11:2514,relp://10.0.0.12:2514")
		},
		shown: func(w *world, printed []string) {
			w.arrives("", "web", "nginx is ready")
			w.arrives("", "shop", "nginx is ready")
			w.contains(printed[2], "nginx is ready")
			w.rack1.Docker("run", "--rm", "--name", "plain", "alpine", "echo", "by the engine's own default")
			w.arrives("", "plain", "default")
		},
	},
	"use-networks": {
		given: func(w *world) { w.install("dockline-net") },
		shown: func(w *world, _ []string) {
			w.serves("192.168.1.200")
			w.rack1.Docker("run", "-d", "--name", "six", "--network", "dmz", "nginx")
			for _, address := range w.addresses("six") {
				w.logs.answers(address)
			}
			w.rack1.Docker("network", "inspect", "backstage")
		},
	},
	"use-compose": {
		given: func(w *world) {
			w.collectors("relp://10.0.0.11:2514")
			w.install("dockline-log", "COLLECTORS=relp://10.0.0.11:2514")
			w.install("dockline-net")
		},
		shown: func(w *world, _ []string) {
			w.serves("192.168.1.201")
			w.arrives("10.0.0.11:2514", strings.TrimPrefix(w.rack1.Docker("ps", "--format", "{{.Names}}"), "/"), "nginx is ready")
		},
	},
	"look-into-it": {
		given: func(w *world) {
			w.collectors("relp://10.0.0.11:2514")
			w.install("dockline-log", "COLLECTORS=relp://10.0.0.11:2514")
			w.install("dockline-net")
			w.network("lan", "eth0")
			w.webs([]string{"web", "db"})
		},
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "10.0.0.11:2514")
			w.contains(printed[0], "A reaches B")
		},
	},
}

// enabled looks whether plugins are.
func (w *world) enabled(names ...string) {
	w.Helper()
	for _, name := range names {
		if state := w.rack1.Docker("plugin", "inspect", "-f", "{{.Enabled}}", name); state != "true" {
			w.Errorf("%s is not enabled", name)
		}
	}
}

// network is what a reader has made before who comes to a later page.
func (w *world) network(name, parent string) {
	w.Helper()
	w.rack1.Docker("network", "create", "-d", "dockline-net:latest", "--ipam-driver", "dockline-net:latest",
		"--subnet", "192.168.1.0/24", "--gateway", "192.168.1.1", "--ip-range", "192.168.1.192/27", "-o", "parent="+parent, name)
}

// serves looks whether another machine of the LAN finds a web server.
func (w *world) serves(address string) {
	w.Helper()
	if said, err := w.logs.fetch("http://" + address); err != nil || said != "hello" {
		w.Errorf("http://%s says %q to a machine of the LAN, %v", address, said, err)
	}
}

// contains looks for what a page promises in what was printed.
func (w *world) contains(printed, want string) {
	w.Helper()
	if !strings.Contains(printed, want) {
		w.Errorf("there is no %q in\n%s", want, printed)
	}
}
