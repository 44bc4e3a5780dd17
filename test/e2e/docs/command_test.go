package docs_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
)

// command gives a machine a command that the test carries out itself, for those
// that belong to systems which are not there: the service manager's, Kafka's.
// What it does not know it has to refuse. It is called by the test's goroutine,
// while that waits for a block.
func (m *machine) command(name string, do func(args []string) (string, error)) {
	m.world.Helper()
	socket := filepath.Join(m.dir, name+".sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		m.world.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var out string
		if err == nil {
			args, done := strings.Split(strings.TrimSuffix(string(body), "\x00"), "\x00"), make(chan struct{})
			m.world.asked <- func() {
				defer close(done)
				out, err = do(args)
			}
			<-done
		}
		if err != nil {
			http.Error(rw, fmt.Sprintf("%s: %v", name, err), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(rw, out)
	})}
	go func() { _ = server.Serve(ln) }()
	m.world.Cleanup(func() { _ = server.Close() })
	m.put("/usr/local/sbin/"+name, strings.NewReader(fmt.Sprintf("#!/bin/sh\n"+
		`printf '%%s\0' "$@" | exec curl -sS --fail-with-body --unix-socket %s --data-binary @- http://test/`+"\n", socket)), "755")
}
