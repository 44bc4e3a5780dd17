package network

import (
	"maps"
	"reflect"
	"strings"
	"testing"
)

// The defaults that the table names are those that are in force.
func TestDefaultsAreThoseOfTheTable(t *testing.T) {
	// Some mean nothing without another, or with a bridge.
	beside := map[string]map[string]string{
		keyMode:          {keyParent: "eth0"},
		keyMacvlanMode:   {keyParent: "eth0"},
		keyConfirmWithin: {keyMode: "bridge", keyUplink: "eth0", keyMove: "true"},
	}
	seen := map[string]bool{}
	for _, o := range Options() {
		if seen[o.Name] || o.Type == "" || !strings.HasSuffix(o.Doc, ".") {
			t.Errorf("%s is there twice, or not described", o.Name)
		}
		seen[o.Name] = true
		if o.Default == "" || strings.Contains(o.Default, " ") {
			continue // none, or in words
		}
		given := maps.Clone(beside[o.Name])
		if given == nil {
			given = map[string]string{keyMode: "bridge"}
		}
		without, err := Parse(Request{ID: "n", Options: given})
		if err != nil {
			t.Fatal(err)
		}
		given[o.Name] = o.Default
		if with, err := Parse(Request{ID: "n", Options: given}); err != nil || !reflect.DeepEqual(with, without) {
			t.Errorf("%s=%s is not the default: %v\n%+v, not\n%+v", o.Name, o.Default, err, with, without)
		}
	}
}
