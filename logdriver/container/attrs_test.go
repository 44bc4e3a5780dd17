package container

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestAttributes(t *testing.T) {
	for _, tc := range []struct {
		name             string
		config, defaults map[string]string
		want             map[string]string
	}{
		{"nothing asked for", nil, nil, map[string]string{}},
		{"by name", map[string]string{"labels": "com.example.tier", "env": "TEAM,odd,none"}, nil, map[string]string{"com.example.tier": "gold", "TEAM": "payments"}},
		{"by expression", map[string]string{"labels-regex": `^com\.`, "env-regex": "^TE"}, nil, map[string]string{"com.example.tier": "gold", "TEAM": "payments"}},
		{"a variable wins over a label", map[string]string{"labels": "TEAM", "env": "TEAM"}, nil, map[string]string{"TEAM": "payments"}},
		{"a constant wins over both", map[string]string{"labels": "TEAM", "env": "TEAM", "fields.TEAM": "x"}, nil, map[string]string{"TEAM": "x"}},
		{"constants", map[string]string{"fields.dc": "fra 1", "fields.a.b-c_d": "ü"}, nil, map[string]string{"dc": "fra 1", "a.b-c_d": "ü"}},
		{"defaults", map[string]string{"fields.a": "own"}, map[string]string{"fields.a": "default", "fields.b": "default", "env": "TEAM"}, map[string]string{"a": "own", "b": "default", "TEAM": "payments"}},
		{"an empty one takes a default away", map[string]string{"fields.a": "", "env": ""}, map[string]string{"fields.a": "default", "env": "TEAM"}, map[string]string{}},
		{"a name of OpenTelemetry's for the service", map[string]string{"fields.service.name": "web"}, nil, map[string]string{"service.name": "web"}},
	} {
		info := example(tc.config)
		info.Defaults = tc.defaults
		got, err := info.ExtraAttributes(nil)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}

// Secrets in what goes with all of a container's records are hidden as in records,
// before anything is shortened.
func TestMetadataIsRedacted(t *testing.T) {
	info := example(map[string]string{"redact": "all", "redact.pw": `(?i)password[= ](\S+)`, "env-regex": ".", "labels-regex": ".", "fields.mail": "ops@example.org",
		"tag": "{{.Name}} {{.Command}} {{(.ExtraAttributes nil).DB_PASSWORD}}", "hash": "tag"})
	info.ContainerArgs = []string{"--password", "hunter2", strings.Repeat("x", maxCommand-60), "redis://:hunter2@h"}
	info.ContainerEnv = []string{"DB_PASSWORD=hunter2", "AWS_SECRET_ACCESS_KEY=hunter2-hunter2", "LONG=" + strings.Repeat("y", maxValue-30) + " http://u:hunter2hunter2hunter2@h"}
	info.ContainerLabels = map[string]string{"traefik": "http://u:hunter2@h"}
	info.Config["tag"] = "{{.Name}} {{truncate .Command 40}} {{index (.ExtraAttributes nil) \"DB_PASSWORD\"}}"
	o, err := ParseOptions(info)
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprint(o.Tag, o.Command, o.Attrs); strings.Contains(all, "hunter") || strings.Contains(all, "@example") || strings.Count(all, "[redacted:") < 8 {
		t.Error(all)
	}
	if o.HashKey != o.Tag {
		t.Errorf("the key is %s", o.HashKey) // and clusters may be told it
	}
}

func TestConstantsAreRefused(t *testing.T) {
	many := map[string]string{}
	for i := range 9 {
		many[fmt.Sprintf("fields.k%d", i)] = strings.Repeat("x", maxConstant)
	}
	for want, config := range map[string]map[string]string{
		`log-opt fields.a b="x": its name is not`:                          {"fields.a b": "x"},
		`log-opt fields..a="x": its name`:                                  {"fields..a": "x"},
		`unknown log-opt "fields."`:                                        {"fields.": "x"},
		`unknown log-opt "fileds.a": did you mean "fields.NAME"?`:          {"fileds.a": "x"},
		`container_id is a field that dockline sets`:                       {"fields.container_id": "x"},
		`container.id is a field that dockline sets`:                       {"fields.container.id": "x"},
		`attrs_left_out is a field`:                                        {"fields.attrs_left_out": "0"},
		`longer than 1024 bytes`:                                           {"fields.a": strings.Repeat("x", maxConstant+1)},
		`log-opt fields.k7="` + strings.Repeat("x", 61) + `…": with those`: many,
	} {
		if _, err := ParseOptions(example(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// What is asked for and too much is left out, and that is said.
func TestAttributesAreBounded(t *testing.T) {
	info := example(map[string]string{"labels-regex": ".", "fields.zz": "kept"})
	info.ContainerLabels = map[string]string{"0": strings.Repeat("ä", maxValue)}
	for i := range 100 {
		info.ContainerLabels[fmt.Sprintf("label%03d", i)] = strings.Repeat("x", 200)
	}
	got, err := info.ExtraAttributes(nil)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for k, v := range got {
		if k != leftOut {
			size += len(k) + len(v)
		}
	}
	if size > maxAttrs || size < maxAttrs-300 {
		t.Errorf("%d bytes", size)
	}
	if left := 103 - len(got); got[leftOut] != fmt.Sprint(left) || got["zz"] != "kept" {
		t.Errorf("%d are there, %s=%q, zz=%q", len(got), leftOut, got[leftOut], got["zz"])
	}
	if v := got["0"]; len(v) > maxValue || !utf8.ValidString(v) || !strings.HasSuffix(v, cutMark) {
		t.Errorf("a long value has %d bytes and ends in %q", len(v), v[len(v)-8:])
	}
}

func TestTag(t *testing.T) {
	for text, want := range map[string]string{
		"":            "web-1",
		"{{.FullID}}": strings.Repeat("0123456789abcdef", 4),
		"{{.ImageFullID}} {{.DaemonName}} {{.Hostname}}": "sha256:fedcba9876543210fedc docker node-1",
		"{{.Command}}": "/bin/server -p 80",
		`{{index .ContainerLabels "com.example.tier"}}`: "gold",
		"{{json .ContainerArgs}}":                       `["-p","80"]`,
		`{{json "<a>&"}}`:                               `"<a>&"`,
		`{{join (split .ImageName "/") "-"}}`:           "shop-web:3",
		`{{title "ab cd"}}{{lower "X"}}{{upper "x"}}`:   "Ab CdxX",
		`[{{pad .Name 1 2}}]{{truncate .Name 3}}`:       "[ web-1  ]web",
		`{{.ExtraAttributes nil}}`:                      "map[TEAM:payments]",
		`{{json (.ExtraAttributes nil)}}`:               `{"TEAM":"payments"}`,
	} {
		info := example(map[string]string{"tag": text, "env": "TEAM"})
		info.DaemonName, info.HostName = "docker", "node-1"
		if o, err := ParseOptions(info); err != nil || o.Tag != want {
			t.Errorf("%s: %q, %v, want %q", text, o.Tag, err, want)
		}
	}
}
