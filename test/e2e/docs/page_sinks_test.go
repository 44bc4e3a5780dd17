package docs_test

// sinks are pages of lists of collectors, and of configurations of theirs, which
// need nothing.
var sinks = page{}

var elasticsearch = page{
	"setting-it-up": {
		given: func(w *world) {
			w.elastic("10.0.0.12:9200", "Basic ZWxhc3RpYzpzZWNyZXQ=")
			w.rack1.write("/etc/dockline/ca.pem", string(w.authority.PEM))
			w.rack1.shell.send("ELASTIC_PASSWORD=secret\n")
		},
		// A container's record gets there with the key that this has made.
		shown: func(w *world, printed []string) {
			w.contains(printed[0], `"encoded":"bmV3IGtleQ=="`)
			w.rack1.write("/etc/dockline/elastic.key", "bmV3IGtleQ==")
			w.install("dockline-log", "COLLECTORS=elasticsearch+https://logs.example:9200?tls-ca=/etc/dockline/ca.pem&api-key-file=/etc/dockline/elastic.key")
			w.rack1.Docker("run", "--rm", "--name", "hello", "--log-driver", "dockline-log", "alpine", "echo", "hello")
			w.contains(w.rack1.sh("docker dockline log drain --timeout 30s && docker dockline log where hello"), "logs.example:9200")
		},
	},
}

// journal is about the host's own.
var journal = page{
	"systemds-journal": {
		given: func(w *world) {
			w.journald()
			w.install("dockline-log")
		},
	},
	"entries": {
		goesOn: true,
		given: func(w *world) {
			w.rack1.Docker("run", "-d", "--name", "web", "--log-driver", "dockline-log", "--log-opt", "collectors=journald://localhost", "--log-opt", "tag=shop",
				"alpine", "sh", "-c", "echo written; echo an error >&2; sleep 100000")
			w.rack1.sh("until docker logs web 2>&1 | grep -q error; do sleep 0.1; done; docker dockline log drain --timeout 30s") // the container writes when it gets to it
		},
		shown: func(w *world, printed []string) { w.contains(printed[0], "an error") },
	},
}
