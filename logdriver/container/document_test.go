package container

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/testdoc"
	"github.com/dockline/dockline/logdriver/field"
)

//go:generate go test . -run ^TestDocument$ -update

// docs/log-options.md says what the tables say.
func TestDocument(t *testing.T) {
	testdoc.Check(t, "../../docs/log-options.md", "<!-- options -->\n", optionTables(), "<!-- fields -->\n", fieldTable(), "<!-- services -->", serviceList())
}

func optionTables() string {
	var b strings.Builder
	heading := ""
	for _, o := range Table() {
		if o.Group != heading {
			heading = o.Group
			fmt.Fprintf(&b, "\n### %s\n\n| option | type | default | where | meaning |\n|---|---|---|---|---|\n", heading)
		}
		name, def, where := o.Name, o.Default, "everywhere"
		if strings.HasSuffix(name, ".") {
			name += "NAME"
		}
		switch {
		case def == "":
			def = "none"
		case !strings.ContainsAny(def, " '"):
			def = "`" + def + "`"
		}
		if o.Elsewhere != "" {
			where = "container"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, o.Type, def, where, strings.ReplaceAll(o.Doc, "|", `\|`))
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// inSyslog are the fields that syslog messages have as parameters; "" stands for
// those that it has elsewhere or not.
var inSyslog = map[string]string{
	field.Host: "`HOSTNAME`", field.Tag: "`APP-NAME`", field.Command: "no", field.Created: "no", field.Engine: "no", field.Version: "no",
}

func fieldTable() string {
	var b strings.Builder
	b.WriteString("| field | | found in | syslog | OpenTelemetry |\n|---|---|---|---|---|\n")
	for _, f := range field.All() {
		syslog := inSyslog[f.Name]
		if syslog == "" {
			syslog = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | `%s` |\n", f.Name, f.Doc, foundIn(f.Name), syslog, f.OTel)
	}
	return b.String()
}

func foundIn(name string) string {
	i := slices.IndexFunc(origins(), func(o origin) bool { return o.field == name })
	if i < 0 {
		return ""
	}
	var all []string
	for _, l := range origins()[i].labels {
		all = append(all, "label `"+l+"`")
	}
	for _, e := range origins()[i].env {
		all = append(all, "variable `"+e+"`")
	}
	return strings.Join(all, ", ")
}

func serviceList() string {
	var all []string
	for _, s := range field.Services() {
		one := "`" + s[0] + "`"
		if s[1] != "" {
			one += " (`" + s[1] + "`)"
		}
		all = append(all, one)
	}
	return strings.Join(all, ", ")
}

// The defaults that the table names are those that are in force.
func TestDefaultsAreThoseOfTheTable(t *testing.T) {
	// Some mean nothing without another.
	beside := map[string][2]string{"multiline-timeout": {"multiline", "java"}, "rate-mode": {"rate", "5"}, "parse-keep": {"parse", "json"}}
	seen := map[string]bool{}
	for _, o := range Table() {
		if seen[o.Name] || o.Type == "" || !strings.HasSuffix(o.Doc, ".") || o.Group == "" {
			t.Errorf("%s is there twice, or not described", o.Name)
		}
		seen[o.Name] = true
		if o.Default == "" || strings.Contains(o.Default, " ") || strings.Contains(o.Default, "'") {
			continue // none, or in words
		}
		given := map[string]string{}
		if b, needed := beside[o.Name]; needed {
			given[b[0]] = b[1]
		}
		without, err := ParseOptions(example(given))
		if err != nil {
			t.Fatal(err)
		}
		given[o.Name] = o.Default
		if with, err := ParseOptions(example(given)); err != nil || !reflect.DeepEqual(with, without) {
			t.Errorf("%s=%s is not the default: %v", o.Name, o.Default, err)
		}
	}
}
