package docs_test

var formats = page{
	"what-a-record-looks-like": {
		given: func(w *world) {
			w.captors()
			w.kafka("10.0.0.11:9092")
			if _, err := w.kafkaTopics([]string{"--bootstrap-server", "10.0.0.11:9092", "--create", "--topic", "logs", "--partitions", "1"}); err != nil {
				w.Fatal(err)
			}
			w.consumed(w.Context(), w.dialKafka, "logs")
			w.journald()
			w.rack1.sh("mkdir -p /etc/dockline")
			w.install("dockline-log", "config.source=/etc/dockline", "journal.source=/run/systemd/journal")
		},
		shown: func(w *world, _ []string) { w.rack1.sh("docker dockline log drain --timeout 30s") },
	},
}
