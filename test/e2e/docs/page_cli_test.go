package docs_test

// everything has both plugins, pools, and containers that log and are on the LAN.
func everything(w *world) {
	w.collectors("relp://10.0.0.11:2514", "relp://10.0.0.12:2514", "relp://10.0.0.13:2514")
	w.rack1.write("/etc/dockline/dockline-log.yaml", `pools:
  default: {collectors: ["relp://10.0.0.11:2514", "relp://10.0.0.12:2514"]}
  audit: {collectors: "relp://10.0.0.13:2514"}
routes:
  - match: {label: {com.example.team: payments}}
    pools: [default, audit]
`)
	w.install("dockline-log", "config.source=/etc/dockline")
	w.install("dockline-net")
	w.network("lan", "eth0")
	webAndDB(w)
}

func webAndDB(w *world) {
	w.webs([]string{"web", "db"}, "--label", "com.example.team=payments")
}

// commands is made from the commands' own help, so that what fails there, as it
// must in a world where nothing is wrong, is said here.
var commands = page{
	"docker-dockline": {given: everything},
	"docker-dockline-log-drain": {
		goesOn: true,
		given:  func(w *world) { w.rack1.Docker("rm", "-f", "web", "db") },
		shown: func(w *world, _ []string) {
			w.rack1.Docker("plugin", "enable", "dockline-log")
			webAndDB(w)
		},
	},
	"docker-dockline-log-explain":      {shown: says("Pool audit: 10.0.0.13:2514 has it")},
	"docker-dockline-log-metrics":      {shown: says("dockline_log_")},
	"docker-dockline-log-pools":        {shown: says("audit/10.0.0.13:2514: healthy")},
	"docker-dockline-log-where":        {shown: says("10.0.0.13:2514")},
	"docker-dockline-net-addr-ls":      {shown: says("192.168.1.19")},
	"docker-dockline-net-addr-reclaim": {fails: "etcd"},
	"docker-dockline-net-check":        {shown: says("all is as it is meant to be")},
	"docker-dockline-net-confirm": {
		given: func(w *world) {
			w.install("dockline-net")
			w.rack1.Docker("network", "create", "-d", "dockline-net:latest", "--ipam-driver", "dockline-net:latest", "--subnet", "192.168.1.0/24",
				"--gateway", "192.168.1.1", "--ip-range", "192.168.1.192/27", "-o", "mode=bridge", "-o", "uplink=eth0", "-o", "move_host_addresses=true", "lan")
		},
		shown: func(w *world, _ []string) { w.logs.answers("192.168.1.2") },
	},
	"docker-dockline-net-inspect": {given: everything, shown: says("192.168.1.19")},
	"docker-dockline-net-rm":      {fails: "6f1c0e9a2b3d"},
	"docker-dockline-net-trace":   {shown: says("A reaches B")},
}

// says looks for what a section's first block is to print.
func says(want string) func(*world, []string) {
	return func(w *world, printed []string) {
		w.Helper()
		w.contains(printed[0], want)
	}
}
