package container

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func example(config map[string]string) *Info {
	return &Info{
		Config: config, ContainerID: strings.Repeat("0123456789abcdef", 4), ContainerName: "/web-1",
		ContainerEntrypoint: "/bin/server", ContainerArgs: []string{"-p", "80"},
		ContainerImageID: "sha256:fedcba9876543210fedc", ContainerImageName: "shop/web:3",
		ContainerEnv: []string{"TEAM=payments", "SECRET=x=y", "odd"}, ContainerLabels: map[string]string{"com.example.tier": "gold", "TEAM": "label"},
	}
}

func TestParseOptions(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, tc := range []struct {
		name   string
		config map[string]string
		want   Options
	}{
		{"defaults", nil, Options{HashKey: id, Tag: "web-1", KeepBytes: 100 << 20}},
		{"the engine's own", map[string]string{"mode": "non-blocking", "max-buffer-size": "4m", "cache-disabled": "true"}, Options{HashKey: id, Tag: "web-1", KeepBytes: 100 << 20}},
		{"nothing kept", map[string]string{"max-size": "0", "on-full": "throttle"}, Options{HashKey: id, Tag: "web-1", OnFull: "throttle", OwnOnFull: true}},
		{"sizes", map[string]string{"max-size": "1m", "max-file": "3"}, Options{HashKey: id, Tag: "web-1", KeepBytes: 3 << 20}},
		{"tag", map[string]string{"tag": `{{.ImageName}}/{{.Name}}/{{.ID}}/{{upper .ImageID}}`}, Options{HashKey: id, Tag: "shop/web:3/web-1/0123456789ab/FEDCBA987654", KeepBytes: 100 << 20}},
		{"hash of each record", map[string]string{"hash": "record"}, Options{HashKey: id, PerRecord: true, Tag: "web-1", KeepBytes: 100 << 20}},
		{"split", map[string]string{"split-above": "1MiB/s"}, Options{HashKey: id, SplitAbove: Rate{1 << 20, true}, OwnSplit: true, Tag: "web-1", KeepBytes: 100 << 20}},
		{"never split", map[string]string{"split-above": "off"}, Options{HashKey: id, SplitAbove: Rate{0, true}, OwnSplit: true, Tag: "web-1", KeepBytes: 100 << 20}},
		{"tag with functions", map[string]string{"tag": `{{range $i, $e := .ContainerEnv}}{{if lt $i 2}}{{printf "%s;" $e}}{{end}}{{end}}{{join (split .Name "-") "_" | title}}{{json .ContainerArgs}}{{pad "a" 1 1}}{{truncate .FullID 2}}{{html "<"}}`},
			Options{HashKey: id, Tag: `TEAM=payments;SECRET=x=y;Web_1["-p","80"] a 01&lt;`, KeepBytes: 100 << 20}},
		{"hash by tag", map[string]string{"tag": "x", "hash": "tag"}, Options{HashKey: "x", Tag: "x", KeepBytes: 100 << 20}},
		{"hash by label", map[string]string{"hash": "label:com.example.tier"}, Options{HashKey: "gold", Tag: "web-1", KeepBytes: 100 << 20}},
		{"hash by a label it lacks", map[string]string{"hash": "label:nope"}, Options{HashKey: id, Tag: "web-1", KeepBytes: 100 << 20}},
		{"hash by variable", map[string]string{"hash": "env:SECRET"}, Options{HashKey: "x=y", Tag: "web-1", KeepBytes: 100 << 20}},
		{"attributes", map[string]string{"labels": "com.example.tier, TEAM,none", "env": "TEAM", "env-regex": "^SEC"},
			Options{HashKey: id, Tag: "web-1", KeepBytes: 100 << 20, Attrs: []Attr{{Key: "SECRET", Value: "x=y"}, {Key: "TEAM", Value: "payments"}, {Key: "com.example.tier", Value: "gold"}}}},
	} {
		tc.want.Command = "/bin/server -p 80"
		got, err := ParseOptions(example(tc.config))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for _, tc := range []struct{ key, value, want string }{
		{"colectors", "x", `unknown log-opt "colectors": did you mean "collectors"?`},
		{"hash", "labels:x", `log-opt hash="labels:x": not one of`},
		{"split-above", "fast", `log-opt split-above="fast": not off, nor a rate`},
		{"split-above", "1", `log-opt split-above="1": less than 1KiB/s`},
		{"hash", "label:", `log-opt hash="label:"`},
		{"hash", "name:x", `log-opt hash="name:x"`},
		{"max-size", "ten", `log-opt max-size="ten": not a size`},
		{"max-file", "0", `log-opt max-file="0": not a whole number of at least 1`},
		{"tag", "{{.Nope}}", `log-opt tag="{{.Nope}}": expand the template`},
		{"tag", "{{", `log-opt tag="{{": not a template`},
		{"tag", `{{range 200}}xxxxxxxx{{end}}`, "expands to more than 1024 bytes"},
		{"tag", manyTemplates(40), "takes too much work"},
		{"tag", `{{range 300000000}}{{end}}`, "takes too much work"},
		{"tag", `{{range 100000}}{{if false}}{{else}}{{range 100000}}{{end}}{{end}}{{end}}`, "takes too much work"},
		{"tag", `{{with 1}}{{range 300000000}}{{continue}}{{end}}{{end}}`, "takes too much work"},
		{"tag", `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, "takes too much work"},
		{"tag", `{{block "a" .}}{{range 300000000}}{{end}}{{end}}`, "takes too much work"},
		{"tag", `{{$x := "xxxxxxxx"}}{{range 900}}{{$x = print $x $x}}{{end}}`, "takes too much work"},
		{"tag", `{{$x := pad "x" 500 500}}{{$x = js $x}}{{range 900}}{{$x = html $x $x}}{{end}}`, "takes too much work"},
		{"tag", `{{$x := printf "%900000d" 1}}{{range 900}}{{$x = printf "%s%s" $x $x}}{{end}}`, "takes too much work"},
		{"tag", `{{$x := split (pad "x" 999 0) "x"}}{{range 900}}{{$y := printf "%.0s" $x}}{{$y = printf "%.0s" $x}}{{end}}`, "takes too much work"},
		{"tag", `{{pad "x" 9223372036854775807 1}}{{range 2000}}{{end}}`, "takes too much work"},
		{"tag", "{{" + `printf "` + strings.Repeat("%[1]s", 33) + `" .ID}}`, "takes too much work"},
		{"tag", strings.Repeat(" ", 4097), "a template of more than 4096 bytes"},
		{"env-regex", "(", `log-opt env-regex="(": not a regular expression`},
	} {
		_, err := ParseOptions(example(map[string]string{tc.key: tc.value}))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: got %v, want %q", tc.key, tc.value, err, tc.want)
		}
	}
}

// Of what cannot be together a container is told; defaults give way to it.
func TestSplittingWhatIsSpreadAlready(t *testing.T) {
	both := map[string]string{"hash": "record", "split-above": "1m"}
	if _, err := ParseOptions(example(both)); err == nil || !strings.Contains(err.Error(), `split-above="1m": means nothing with hash=record`) {
		t.Error(err)
	}
	info := example(map[string]string{"hash": "record"})
	info.Defaults = map[string]string{"split-above": "1m"}
	if _, err := ParseOptions(info); err != nil {
		t.Error(err)
	}
}

// manyTemplates returns one that expands to 2^depth bytes.
func manyTemplates(depth int) string {
	text := `{{define "t0"}}x{{end}}`
	for i := 1; i <= depth; i++ {
		text += fmt.Sprintf(`{{define "t%d"}}{{template "t%d"}}{{template "t%d"}}{{end}}`, i, i-1, i-1)
	}
	return text + fmt.Sprintf(`{{template "t%d"}}`, depth)
}
