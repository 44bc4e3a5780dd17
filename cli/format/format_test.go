package format

import (
	"io"
	"strings"
	"testing"
)

type row struct {
	ID    string `header:"ROW ID"`
	Name  string `header:"NAME"`
	Extra string `header:"EXTRA,wide"`
}

func TestList(t *testing.T) {
	rows := []row{{"1", "one", "e"}, {"22", "two <&>", "f"}}
	for name, c := range map[string]struct{ format, want string }{
		"default":   {"", "ROW ID    NAME\n1         one\n22        two <&>\n"},
		"table":     {"table", "ROW ID    NAME\n1         one\n22        two <&>\n"},
		"fields":    {`table {{.Name}}\t{{.Extra}}`, "NAME      EXTRA\none       e\ntwo <&>   f\n"},
		"functions": {`table {{upper .Name}}\t{{json .ID}}\t{{range split .Extra ","}}{{.}}{{end}}\t{{join (split .ID "") "-"}}`, "NAME      ROW ID    EXTRA     ROW ID\nONE       \"1\"       e         1\nTWO <&>   \"22\"      f         2-2\n"},
		"json":      {"json", `{"ID":"1","Name":"one","Extra":"e"}` + "\n" + `{"ID":"22","Name":"two <&>","Extra":"f"}` + "\n"},
		"template":  {`{{upper .Name}}={{truncate .ID 1}}{{pad .Extra 1 1}}`, "ONE=1 e \nTWO <&>=2 f \n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := List(&b, c.format, rows); err != nil || trim(b.String()) != c.want {
				t.Errorf("%v\n%q\nwant\n%q", err, b.String(), c.want)
			}
		})
	}
	for _, bad := range []string{"{{.Nme}}", "{{.", "table {{.Nme}}"} {
		if err := List(io.Discard, bad, rows); err == nil || !strings.Contains(err.Error(), "--format") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// trim takes blanks from the ends of a table's lines.
func trim(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		if strings.Contains(lines[i], "  ") {
			lines[i] = strings.TrimRight(lines[i], " ")
		}
	}
	return strings.Join(lines, "\n")
}

func TestOne(t *testing.T) {
	plain := func(w io.Writer) error { _, err := io.WriteString(w, "plain\n"); return err }
	for format, want := range map[string]string{
		"": "plain\n", "table": "plain\n", "json": `{"ID":"1","Name":"n","Extra":""}` + "\n", "{{.ID}}-{{title .Name}}": "1-N\n",
	} {
		var b strings.Builder
		if err := One(&b, format, row{ID: "1", Name: "n"}, plain); err != nil || b.String() != want {
			t.Errorf("%q: %v %q", format, err, b.String())
		}
	}
}
