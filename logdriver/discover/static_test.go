package discover

import (
	"strings"
	"testing"
)

func TestParseList(t *testing.T) {
	got, err := ParseList("relp://a:2514, syslog+tcp://b:601?weight=3&facility=local0\njson+tcp://[::1]:5170?name=c1")
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		name   string
		weight uint32
		url    string
	}{
		{"a:2514", 1, "relp://a:2514"},
		{"b:601", 3, "syslog+tcp://b:601?facility=local0"},
		{"c1", 1, "json+tcp://[::1]:5170"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i, w := range want {
		if got[i].Name != w.name || got[i].Weight != w.weight || got[i].URL.String() != w.url {
			t.Errorf("%d: got %+v (%s), want %+v", i, got[i], got[i].URL, w)
		}
	}
}

func TestParseListRefuses(t *testing.T) {
	for list, want := range map[string]string{
		"host:514":                     `"host:514": not of the form`,
		"relp://":                      "scheme://host:port",
		"relp://a:b:c":                 `"relp://a:b:c": not a URL`,
		"relp://a:1?weight=-1":         `weight="-1"`,
		"relp://a:1?weight=99999999":   "0..1048576",
		"relp://a:1,relp://a:1":        "listed twice",
		"relp://a:1?name=":             "name is empty",
		"relp://u:secret@a:x":          "…@a:x",
		"relp://u:p@secret@a:x":        "…@a:x",
		"relp://a:1?weight=0;x=1":      "parameters",
		"relp://a:1?name=a&name=b":     "name is given 2 times",
		"relp://u:se,cret@a:1":         `collector "relp://…", which is number 1 of the 2`,
		"relp://u:1,secret@a:1":        `collector "…", which is number 2 of the 2`,
		"relp://u:sec/ret@a:1":         `collector "relp://…@a:1": not a URL`,
		"relp://u:secret%@a:1":         "is written %25",
		"relp://a:1?weight=x&h=secret": "weight=x&h=…",
	} {
		_, err := ParseList(list)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", list, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the password: %v", list, err)
		}
	}
}
