package pluginlog

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestRecentLines(t *testing.T) {
	var r Recent
	var out, errs strings.Builder
	log := New(r.Tee(&out), r.Tee(&errs), slog.LevelInfo)
	for i := range maxLines {
		log.Info("line", "n", i)
	}
	log.Warn("bad", "text", strings.Repeat("x", 2*maxLine))
	lines := r.Lines()
	if len(lines) != maxLines || !strings.HasSuffix(lines[0], "n=1") || !strings.Contains(lines[maxLines-1], "msg=bad") || len(lines[maxLines-1]) != maxLine {
		t.Errorf("%d lines, from %s", len(lines), lines[0])
	}
	if n := strings.Count(out.String(), "\n"); n != maxLines || !strings.HasSuffix(out.String(), fmt.Sprintf("n=%d\n", maxLines-1)) || len(errs.String()) < 2*maxLine {
		t.Errorf("%d lines were passed on", n)
	}
}
