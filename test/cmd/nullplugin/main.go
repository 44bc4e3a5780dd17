// Command nullplugin is the least that a log driver plugin can be: it reads
// each FIFO as data comes, into a buffer of 64 KiB, and discards it. What the
// engine takes with it is the floor that benchmarks compare with.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

const socket = "/run/docker/plugins/null.sock"

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "nullplugin:", err)
		os.Exit(1)
	}
}

func serve() error {
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	http.HandleFunc("/LogDriver.Capabilities", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"Cap":{"ReadLogs":true}}`) // without it the engine writes a copy of its own
	})
	http.HandleFunc("/LogDriver.StartLogging", start)
	http.HandleFunc("/LogDriver.StopLogging", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"Err":""}`)
	})
	return http.Serve(l, nil) //nolint:gosec // there is one client, the engine
}

func start(w http.ResponseWriter, r *http.Request) {
	var req struct{ File string }
	err := json.NewDecoder(r.Body).Decode(&req)
	if err == nil {
		var f *os.File
		if f, err = os.Open(req.File); err == nil {
			go discard(f)
		}
	}
	var res struct{ Err string }
	if err != nil {
		res.Err = err.Error()
	}
	_ = json.NewEncoder(w).Encode(res)
}

func discard(f *os.File) {
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		if _, err := f.Read(buf); err != nil {
			return
		}
	}
}
