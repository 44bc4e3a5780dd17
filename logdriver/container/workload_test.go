package container

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/logdriver/field"
)

// Each file in testdata/info is what an engine sends with StartLogging, written
// after what the scheduler of its name gives a container, secrets beside it.
func TestWorkload(t *testing.T) {
	const alloc = "9f2f2a4e-1c51-3a3c-9d2e-6a2f0f1c7b11"
	for name, want := range map[string][]Attr{
		"plain":   nil,
		"compose": {{Key: "compose_project", Value: "shop"}, {Key: "compose_service", Value: "web"}, {Key: "compose_number", Value: "2"}},
		"swarm": {{Key: "swarm_stack", Value: "shop"}, {Key: "swarm_service", Value: "shop_web"},
			{Key: "swarm_task", Value: "shop_web.1.q3r5n0x8tq2p5v4g6yn3ysk4h"}, {Key: "swarm_node", Value: "x7bq0mnh4ds1fz9qpw8u5oj3e"}},
		"nomad": {{Key: "nomad_namespace", Value: "default"}, {Key: "nomad_job", Value: "shop"}, {Key: "nomad_group", Value: "frontend"},
			{Key: "nomad_task", Value: "web"}, {Key: "nomad_alloc", Value: alloc}},
		"nomad-labels": {{Key: "nomad_namespace", Value: "prod"}, {Key: "nomad_job", Value: "shop"}, {Key: "nomad_group", Value: "frontend"},
			{Key: "nomad_task", Value: "web"}, {Key: "nomad_alloc", Value: alloc}},
		"marathon": {{Key: "mesos_task", Value: "shop_web.instance-5d7a7b0e-9c3f-11e9-8a55-70b3d5800001._app.1"},
			{Key: "marathon_app", Value: "/shop/web"}, {Key: "marathon_version", Value: "2026-06-28T09:14:51.311Z"}},
		"chronos": {{Key: "mesos_task", Value: "ct:1561713291000:0:nightly:"}, {Key: "chronos_job", Value: "nightly"}},
		"kubernetes": {{Key: "k8s_namespace", Value: "shop"}, {Key: "k8s_pod", Value: "web-6c5d8b7f9-x2v4k"},
			{Key: "k8s_pod_uid", Value: "3f0d6a0e-52a7-4b39-9b5b-1d5b8c1f2a77"}, {Key: "k8s_container", Value: "nginx"}},
	} {
		t.Run(name, func(t *testing.T) {
			info := readInfo(t, name)
			got := info.Workload()
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			o, err := ParseOptions(info)
			if err != nil || len(o.Attrs) > 0 {
				t.Errorf("without being asked: %v, %v", o.Attrs, err)
			}
			for _, a := range append(got, Attr{Key: "tag", Value: o.Tag}) {
				if strings.Contains(a.Value, "secret") {
					t.Errorf("%s says a secret: %q", a.Key, a.Value)
				}
			}
		})
	}
	files, err := filepath.Glob("testdata/info/*.json")
	if err != nil || len(files) != 8 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func readInfo(t *testing.T, name string) *Info {
	t.Helper()
	data, err := os.ReadFile("testdata/info/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var info Info
	if err := json.Unmarshal(data, &info); err != nil {
		t.Fatal(err)
	}
	return &info
}

func TestFieldsAreKnownAndBounded(t *testing.T) {
	long := strings.Repeat("ä", maxField)
	info := Info{ContainerLabels: map[string]string{}, ContainerEntrypoint: strings.Repeat("x", 2*maxCommand)}
	for _, o := range origins() {
		info.ContainerLabels[o.labels[0]] = long
		if !field.Taken(o.field) {
			t.Errorf("%s is no field", o.field)
		}
	}
	got := info.Workload()
	if len(got) != len(origins()) {
		t.Errorf("%d of %d", len(got), len(origins()))
	}
	for _, a := range got {
		if len(a.Value) > maxField || !strings.HasSuffix(a.Value, "ä"+cutMark) {
			t.Errorf("%s has %d bytes: %q", a.Key, len(a.Value), a.Value)
		}
	}
	o, err := ParseOptions(&info)
	if got := o.Command; err != nil || len(got) != maxCommand {
		t.Errorf("a command of %d bytes, %v", len(got), err)
	}
}
