package main

import (
	"strings"
	"testing"
)

func TestTraceIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		with string
	}{
		"no ends":     {nil, "two ends"},
		"one end":     {[]string{"10.1.0.2"}, "two ends"},
		"no such":     {[]string{"-what", "10.1.0.2", "10.1.0.3"}, "-what"},
		"no plugin":   {[]string{"10.1.0.2", "10.1.0.3"}, "-socket"},
		"a bell":      {[]string{"-socket", "/nowhere/\x1b]0;x\a", "10.1.0.2", "10.1.0.3"}, `/nowhere/\u001b`},
		"not enabled": {[]string{"-socket", "/nowhere/admin.sock", "10.1.0.2", "10.1.0.3"}, "/nowhere/admin.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs strings.Builder
			if code := runTrace(tc.args, &out, &errs); code != 2 || !strings.Contains(errs.String(), tc.with) {
				t.Errorf("code %d, said %q, want %q", code, errs.String(), tc.with)
			}
			if strings.Contains(errs.String(), "\x1b") {
				t.Errorf("a terminal does as it is told: %q", errs.String())
			}
		})
	}
}
