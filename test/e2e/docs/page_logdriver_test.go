package docs_test

import "strings"

const relps = "COLLECTORS=relp://10.0.0.11:2514,relp://10.0.0.12:2514"

// logging has the log plugin installed, with two collectors that are up.
func logging(w *world) {
	w.collectors("relp://10.0.0.11:2514", "relp://10.0.0.12:2514")
	w.install("dockline-log", relps)
}

// webLogs is logging with a container that logs.
func webLogs(w *world) {
	logging(w)
	w.rack1.Docker("run", "-d", "--name", "web", "--log-driver", "dockline-log", "nginx")
}

// example puts the example configuration in place.
func example(w *world) {
	w.rack1.sh(`mkdir -p /etc/dockline; cp "$1/plugin-config/dockline-log/dockline-log.yaml" /etc/dockline/`, w.rack1.tree())
}

var logDriver = page{
	"what-goes-with-a-record": {
		given: logging,
		shown: func(w *world, _ []string) { w.arrives("", "web", "nginx is ready") },
	},
	"where-the-spool-lies": {
		given: func(w *world) {
			logging(w)
			w.rack1.sh("mkdir -p /data/logs")
		},
		shown: func(w *world, _ []string) { w.rack1.sh("test -d /data/logs/dockline-log") },
	},
	"names-of-collectors": {
		given: func(w *world) {
			logging(w)
			w.rack1.sh("mkdir -p /run/NetworkManager")
		},
		shown: func(w *world, _ []string) { w.enabled("dockline-log") },
	},
	"looking-into-it": {
		given: func(w *world) {
			webLogs(w)
			example(w)
			w.arrives("", "web", "nginx is ready")
		},
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "everything is delivered")
			w.contains(printed[1], `"name": "web"`)
		},
	},
	// One collector goes away, and another takes its place.
	"where-a-containers-records-are": {
		given: func(w *world) {
			logging(w)
			first := w.collector("c1", "json+tcp://10.0.0.21:5170")
			w.rack1.Docker("run", "-d", "--name", "web", "--log-driver", "dockline-log",
				"--log-opt", "collectors=json+tcp://10.0.0.21:5170?name=c1,json+tcp://10.0.0.22:5170?name=c2",
				"alpine", "sh", "-c", "seq 563; until [ -e /tmp/more ]; do sleep 0.1; done; seq 564 4000; sleep 100000")
			w.arrives("c1", "web", "563")
			if err := first.Close(); err != nil {
				w.Error(err)
			}
			w.collector("c2", "json+tcp://10.0.0.22:5170")
			w.rack1.Docker("exec", "web", "touch", "/tmp/more")
			w.arrives("c2", "web", "4000")
			w.rack1.sh("docker dockline log drain --timeout 30s")
		},
	},
}

var configuration = page{
	"where-it-lies": {
		given: func(w *world) {
			w.collectors("relp://10.0.0.11:2514", "relp://10.0.0.12:2514", "relp://10.0.0.13:2514")
			w.install("dockline-log")
		},
		shown: func(w *world, _ []string) {
			w.rack1.Docker("run", "-d", "--name", "web", "--log-driver", "dockline-log", "nginx")
			w.arrives("", "web", "nginx is ready")
		},
	},
	"what-it-says": {given: func(*world) {}},
	"choosing-a-pool": {
		given: func(w *world) {
			w.collectors("relp://10.0.0.11:2514", "relp://10.0.0.12:2514", "relp://10.0.0.13:2514")
			example(w)
			w.install("dockline-log", "config.source=/etc/dockline")
		},
		shown: func(w *world, printed []string) {
			both := strings.Fields(printed[0])[1]
			w.arrives("", strings.TrimPrefix(w.rack1.Docker("inspect", "-f", "{{.Name}}", both), "/"), "nginx is ready")
		},
	},
	// What is wrong stands in the lines that the page shows.
	"checking-a-change": {
		given: func(w *world) {
			w.install("dockline-log")
			lines := strings.Split(strings.Repeat("\n", 31), "\n")
			for at, line := range map[int]string{
				1: "pools:", 2: "  default: {collectors: relp://10.0.0.11:2514}", 3: "  web: {collectors: relp://10.0.0.12:2514}",
				4: "  audit:", 5: "    collectors: relp://10.0.0.13:2514", 17: "    privat: true",
				20: "routes:", 21: "  - {match: {name: a}, pools: [web]}", 22: "  - {match: {name: b}, pools: [audit]}",
				30: "  - match: {name: c}", 31: "    pools: [wbe]",
			} {
				lines[at-1] = line
			}
			w.rack1.write("/etc/dockline/dockline-log.yaml", strings.Join(lines, "\n"))
		},
	},
}

var metrics = page{
	"serving-them": {
		given: logging,
		shown: func(w *world, printed []string) {
			w.contains(printed[0], "\ndockline_log_")
			if said, err := w.rack1.fetch("http://127.0.0.1:9741/metrics"); err != nil || !strings.Contains(said, "\ndockline_log_") {
				w.Errorf("METRICS serves %.200q, %v", said, err)
			}
		},
	},
	"scraping": {goesOn: true, given: func(*world) {}},
	"profiles": {
		goesOn: true,
		given: func(w *world) {
			w.rack1.sh("docker plugin disable dockline-log && docker plugin set dockline-log PPROF=on && docker plugin enable dockline-log")
		},
		shown: func(w *world, _ []string) {
			w.rack1.sh(`cd "$1" && go tool pprof -top cpu.pprof && go tool pprof -top heap.pprof`, w.rack1.tree())
		},
	},
}
