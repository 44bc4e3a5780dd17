package field

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamesAreShortAndUnique(t *testing.T) {
	// What Elasticsearch, Loki, Prometheus and RFC 5424 all take as it is.
	form := regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	seen := map[string]bool{}
	for _, f := range All() {
		if !form.MatchString(f.Name) || f.Doc == "" || f.OTel == "" || seen[f.Name] || seen[f.OTel] || !Taken(f.Name) || !Taken(f.OTel) {
			t.Errorf("%+v", f)
		}
		seen[f.Name], seen[f.OTel] = true, true
	}
	for _, s := range services {
		if !seen[s.name] || s.space != "" && !seen[s.space] {
			t.Errorf("%+v: there are no such fields", s)
		}
	}
	if Taken("team") || Taken("service.name") {
		t.Error("a name is taken that is nobody's")
	}
}

func TestResource(t *testing.T) {
	for _, tc := range []struct {
		name                string
		fields, attrs, want []Attr
	}{
		{"nothing", nil, nil, nil},
		{"identity", []Attr{{Host, "h"}, {ContainerID, "c"}, {Engine, "docker"}}, nil, []Attr{{"host.name", "h"}, {"container.id", "c"}, {"container.runtime.name", "docker"}}},
		{"Compose", []Attr{{ComposeProject, "shop"}, {ComposeService, "web"}}, nil,
			[]Attr{{"dockline.compose.project", "shop"}, {"dockline.compose.service", "web"}, {"service.name", "web"}, {"service.namespace", "shop"}}},
		{"Marathon", []Attr{{MarathonApp, "/shop/web"}}, nil, []Attr{{"dockline.marathon.app", "/shop/web"}, {"service.name", "/shop/web"}}},
		{"Kubernetes", []Attr{{K8sNamespace, "shop"}, {K8sPod, "web-0"}, {K8sContainer, "nginx"}}, nil,
			[]Attr{{"k8s.namespace.name", "shop"}, {"k8s.pod.name", "web-0"}, {"k8s.container.name", "nginx"}, {"service.name", "nginx"}, {"service.namespace", "shop"}}},
		{"a service of the user's", []Attr{{SwarmService, "shop_web"}}, []Attr{{"service.name", "web"}}, []Attr{{"dockline.swarm.service", "shop_web"}}},
		{"no service", []Attr{{ContainerName, "web-1"}}, []Attr{{"team", "a"}}, []Attr{{"container.name", "web-1"}, {"service.name", "web-1"}}},
	} {
		if d := cmp.Diff(tc.want, Resource(tc.fields, tc.attrs)); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}
