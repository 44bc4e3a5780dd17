package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dockline/dockline/test/harness/program"
)

// groups are kinds of containers by how their collectors are known.
var groups = []string{"static", "file", "dns", "srv", "consul", "etcd"}

// settings is what the configuration says.
type settings struct {
	version int
	static  members
	pools   map[string]string // of each group, the pool that it goes to
}

func newSettings() *settings {
	s := &settings{static: all(), pools: map[string]string{}}
	for _, g := range groups {
		s.pools[g] = g
	}
	return s
}

// all is every collector with weight 1.
func all() members {
	m := members{}
	for i := range collectors {
		m[i] = 1
	}
	return m
}

// urls are members as URLs.
func (m members) urls() (urls []string) {
	for _, i := range slices.Sorted(maps.Keys(m)) {
		urls = append(urls, fmt.Sprintf("relp://%s:%d?weight=%d", addressOf(i), port, m[i]))
	}
	return urls
}

// text is the configuration. The pool spare has the collectors of the pool
// static, and so can take its place.
func (s *settings) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# version %d\npools:\n", s.version)
	pool := func(name, collectors, more string) {
		fmt.Fprintf(&b, "  %s: {collectors: [%s], options: {timeout: 4s, max-line: \"0\"}%s}\n", name, collectors, more)
	}
	static := "'" + strings.Join(s.static.urls(), "', '") + "'"
	pool("static", static, "")
	pool("spare", static, "")
	pool("file", "'file://"+listFile+"'", "")
	pool("dns", fmt.Sprintf("'dns+relp://logs.chaos.test:%d'", port), "")
	pool("srv", "'srv+relp://_logs._tcp.chaos.test'", "")
	pool("consul", "'consul+relp://"+consulAddr+"/logs'", "")
	pool("etcd", "'etcd+relp://"+etcdAddr+"/logs/'", "")
	pool("dead", fmt.Sprintf("'relp://10.9.0.99:%d', 'relp://%s:9'", port, addressOf(0)), "")
	pool("audit", fmt.Sprintf("'relp://%s:%d'", addressOf(auditor), port), ", private: true, on-full: throttle")
	b.WriteString("routes:\n")
	for _, g := range groups {
		pools, opts := s.pools[g], ""
		switch g {
		case audited:
			pools += ", audit"
		case spread:
			opts = ", log-opts: {hash: record}"
		case split:
			opts = ", log-opts: {split-above: 8KiB/s}"
		}
		fmt.Fprintf(&b, "- {match: {label: {group: %s}}, pools: [%s]%s}\n", g, pools, opts)
	}
	return b.String()
}

// faults are ways in which a configuration is bad, and what the plugin has to
// say about each.
var faults = []struct{ from, to, says string }{
	{"private: true", "privat: true", `did you mean \"private\"`},
	{"pools: [file]", "pools: [fiel]", `there is no pool \"fiel\"`},
	{"relp://10.9.0.20", "rlep://10.9.0.20", `no sink speaks \"rlep\"`},
	{"routes:", "routes: [", "not YAML"},
	{"timeout: 4s", "timeout: soon", "timeout"},
	{"hash: record", "hash: records", "hash"},
	{"split-above: 8KiB/s", "split-above: much", "split-above"},
	{"on-full: throttle", "on-full: wait", "on-full"},
	{"audit: {", "audit: {files: {tls-ca: nowhere.pem}, ", "nowhere.pem"},
}

// apply has the plugin take the configuration as it is now.
func (w *world) apply(ctx context.Context) error {
	before, err := w.metric(ctx, "config_info")
	if err != nil {
		return err
	}
	w.settings.version++
	if err := w.put(ctx, configDir+"/dockline-log.yaml", w.settings.text()); err != nil {
		return err
	}
	return w.await(ctx, "the configuration to be taken", func(ctx context.Context) (bool, error) {
		now, err := w.metric(ctx, "config_info")
		return now != before && now != "", err
	})
}

// refuse gives the plugin a bad configuration and expects that it says so and
// goes on with the one in force. The bad one stays until the next.
func (w *world) refuse(ctx context.Context) error {
	w.settings.version++
	fault, text := faults[w.rnd.IntN(len(faults))], w.settings.text()
	for !strings.Contains(text, fault.from) {
		fault = faults[w.rnd.IntN(len(faults))]
	}
	program.Say("  %q in place of %q", fault.to, fault.from)
	version, err := w.metric(ctx, "config_info")
	if err != nil {
		return err
	}
	refused, err := w.metric(ctx, "config_refusals_total")
	if err != nil {
		return err
	}
	bad := strings.Replace(text, fault.from, fault.to, 1)
	if err := w.put(ctx, configDir+"/dockline-log.yaml", bad); err != nil {
		return err
	}
	err = w.await(ctx, "the configuration to be refused", func(ctx context.Context) (bool, error) {
		now, err := w.metric(ctx, "config_refusals_total")
		return now != refused, err
	})
	if err != nil {
		return err
	}
	status, err := w.ask(ctx, "status")
	if err != nil {
		return err
	}
	if !strings.Contains(status, fault.says) {
		return fmt.Errorf("the status does not say %q", fault.says)
	}
	for name, want := range map[string]string{"config_info": version, "config_refused": "1"} {
		if now, err := w.metric(ctx, name); err != nil || !strings.HasSuffix(now, want) {
			return fmt.Errorf("after a configuration was refused, %s is %s: %w", name, now, err)
		}
	}
	w.refused++
	return nil
}
