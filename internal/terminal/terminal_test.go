package terminal

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":           "plain\ttext\n",
		"Grüße, 世界 🙂":             "Grüße, 世界 🙂",
		"\x1b]0;title\x07\x1b[2J": `\u001b]0;title\u0007\u001b[2J`,
		"over\rwritten\b\b":       `over\u000dwritten\u0008\u0008`,
		"\u009b31mred":            `\u009b31mred`,
		"\x9b31m":                 `\x9b31m`,
		"evil\u202egpj.exe":       `evil\u202egpj.exe`,
		"\x00\x7f":                `\u0000\u007f`,
	} {
		var b bytes.Buffer
		if n, err := Safe(&b).Write([]byte(in)); err != nil || n != len(in) || b.String() != want {
			t.Errorf("%q: %q, %d, %v; want %q", in, &b, n, err, want)
		}
	}
}

// What is JSON says the same.
func TestSafeJSON(t *testing.T) {
	const evil = "a\u009b\u202e\x1b\x7fz"
	var b bytes.Buffer
	if err := json.NewEncoder(Safe(&b)).Encode(struct{ Name string }{evil}); err != nil {
		t.Fatal(err)
	}
	var back struct{ Name string }
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Name != evil || strings.ContainsAny(b.String(), "\u009b\u202e\x1b\x7f") {
		t.Errorf("%q: %+v, %v", &b, back, err)
	}
}
