package pluginlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLevelsGoTheirWays(t *testing.T) {
	var out, err bytes.Buffer
	log := New(&out, &err, slog.LevelInfo).With("plugin", "p").WithGroup("g")
	log.Debug("not said")
	log.Info("said", "k", 1)
	log.Error("bad", "k", 2)
	if got := out.String(); !strings.Contains(got, "msg=said plugin=p g.k=1") || strings.Count(got, "\n") != 1 {
		t.Errorf("stdout: %q", got)
	}
	if got := err.String(); !strings.Contains(got, "msg=bad plugin=p g.k=2") || strings.Count(got, "\n") != 1 {
		t.Errorf("stderr: %q", got)
	}
}
