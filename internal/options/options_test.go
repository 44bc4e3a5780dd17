package options

import (
	"errors"
	"testing"
)

func TestCheckKeysNamesTheNearest(t *testing.T) {
	known := []string{"collectors", "hash", "max-size", "fields."}
	for _, tc := range []struct {
		given   map[string]string
		key     string
		nearest string
	}{
		{given: map[string]string{"collectors": "x", "fields.team": "a"}},
		{given: map[string]string{"colector": "x"}, key: "colector", nearest: "collectors"},
		{given: map[string]string{"Max_Size": "x"}, key: "Max_Size", nearest: "max-size"},
		{given: map[string]string{"hsah": "x"}, key: "hsah", nearest: "hash"},
		{given: map[string]string{"fields.": "x"}, key: "fields.", nearest: "fields."},
		{given: map[string]string{"zz": "1", "aa": "2"}, key: "aa", nearest: "hash"},
	} {
		err := CheckKeys("log-opt", tc.given, known)
		if tc.key == "" {
			if err != nil {
				t.Errorf("%v: %v", tc.given, err)
			}
			continue
		}
		var unknown *UnknownKeyError
		if !errors.As(err, &unknown) || unknown.Key != tc.key || unknown.Nearest != tc.nearest {
			t.Errorf("%v: got %v, want key %q nearest %q", tc.given, err, tc.key, tc.nearest)
		}
	}
}

func TestUnknownKeysAreSaidSoThatOneCanGoOn(t *testing.T) {
	known := []string{"collectors", "tag", "labels", "fields."}
	for key, want := range map[string]string{
		"label":        `unknown log-opt "label": did you mean "labels"?`,
		"Tags":         `unknown log-opt "Tags": did you mean "tag"?`,
		"fields":       `unknown log-opt "fields": did you mean "fields.NAME"?`,
		"fields.":      `unknown log-opt "fields.": did you mean "fields.NAME"?`,
		"fileds.team":  `unknown log-opt "fileds.team": did you mean "fields.NAME"?`,
		"gelf-address": `unknown log-opt "gelf-address": there are collectors, fields.NAME, labels, tag`,
	} {
		if err := CheckKeys("log-opt", map[string]int{key: 1}, known); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
