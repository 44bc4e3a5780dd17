package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dockline/dockline/test/harness"
)

// A container of the demo. The first one's lines pace the demo.
type demoContainer struct {
	name    string
	what    string
	lines   uint64 // on stdout, where it is known
	command []string
}

func shell(script string) []string { return []string{"sh", "-c", script} }

var containers = []demoContainer{
	{"demo-orders", "numbered lines, 3,000 a second", 60000, []string{"workload", "seq", "-n", "60000", "-rate", "3000"}},
	{"demo-payments", "numbered lines on stdout and stderr", 0, []string{"workload", "seq", "-n", "15000", "-rate", "800", "-stderr-every", "3"}},
	{"demo-web-1", "web server under load, access log", 0, []string{"workload", "web", "-requests", "8000", "-rate", "110"}},
	{"demo-web-2", "web server under load, access log", 0, []string{"workload", "web", "-requests", "4000", "-rate", "60"}},
	{"demo-httpd", "busybox httpd and wget", 0, shell(`mkdir /www; echo hello >/www/index.html
		httpd -f -vv -p 127.0.0.1:8080 -h /www & sleep 1
		for i in $(seq 300); do wget -q -O /dev/null http://127.0.0.1:8080/; usleep 30000; done; kill $!`)},
	{"demo-traces", "stack traces of real faults", 0, []string{"workload", "trace", "-n", "250", "-rate", "15"}},
	{"demo-json", "structured logs", 0, []string{"workload", "json", "-n", "15000", "-rate", "1000"}},
	{"demo-long", "lines from 20 KiB to 1 MiB", 0, shell(`for i in $(seq 8); do workload long -n 5; sleep 2; done`)},
	{"demo-binary", "every byte value, NULs, invalid UTF-8", 0, shell(`for i in $(seq 8); do workload binary; sleep 2; done`)},
	{"demo-burst", "bursts of 4,000 lines", 0, []string{"workload", "burst", "-n", "8", "-lines", "4000", "-pause", "2s"}},
	{"demo-shell", "shell loop over busybox programs", 0, shell(`for i in $(seq 60); do date; ps; df; ls -l /bin | head -n 20; cat /nothing; sleep 0.3; done; exit 0`)},
	{"demo-notail", "output that ends within a line", 0, shell(`for i in $(seq 40); do echo working on $i; sleep 0.4; done; workload notail`)},
}

func (d *demo) startContainers(ctx context.Context) error {
	step("starting %d containers, docker run --log-driver %s", len(containers), plugin)
	var urls []string
	for _, c := range d.collectors {
		urls = append(urls, c.url)
	}
	for _, c := range containers {
		args := []string{
			"--label", label, "--log-driver", plugin, "--log-opt", "hash=name", "--log-opt", "collectors=" + strings.Join(urls, ","),
			harness.Image, "workload", "tally",
		}
		if _, err := d.docker.Start(ctx, c.name, append(args, c.command...)...); err != nil {
			return err
		}
		note("%-14s %s", c.name, c.what)
		d.mu.Lock()
		d.running++
		d.mu.Unlock()
		d.wg.Go(func() { d.await(ctx, c.name) })
	}
	step("records received by each collector")
	show, stop := context.WithCancel(ctx)
	d.stopShow = stop
	d.wg.Go(func() { d.show(show) })
	return nil
}

// await expects what a container wrote, once it has ended.
func (d *demo) await(ctx context.Context, name string) {
	code, err := d.docker.Wait(ctx, name)
	if err == nil && code != "0" {
		err = fmt.Errorf("%s ended with code %s", name, code)
	}
	if err == nil {
		wrote, terr := d.docker.Tally(ctx, name)
		if err = terr; err == nil {
			defer d.check.Expect(name, wrote) // last, for it wakes finish
		}
	}
	if err != nil {
		d.fail(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running--
}

// removeContainers removes those of this demo and of one that was killed.
func (d *demo) removeContainers(ctx context.Context) error {
	ids, err := d.docker.Run(ctx, "ps", "-aq", "--filter", "label="+label)
	if err != nil {
		return err
	}
	return d.docker.Remove(ctx, strings.Fields(ids)...)
}
