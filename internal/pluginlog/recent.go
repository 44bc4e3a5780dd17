package pluginlog

import (
	"io"
	"strings"
	"sync"
)

// Recent keeps the last lines that went by, for operators who ask what a plugin
// said lately.
type Recent struct {
	mu    sync.Mutex // guards lines
	lines []string   // the oldest first
}

const (
	maxLines = 1000
	maxLine  = 4 << 10 // bytes that are kept of one
)

// Tee returns a writer of lines to w, which are kept. A logger of log/slog writes
// one with each call.
func (r *Recent) Tee(w io.Writer) io.Writer { return &tee{r, w} }

type tee struct {
	recent *Recent
	to     io.Writer
}

func (t *tee) Write(line []byte) (int, error) {
	t.recent.keep(strings.TrimSuffix(string(line[:min(len(line), maxLine)]), "\n"))
	return t.to.Write(line)
}

func (r *Recent) keep(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) == maxLines {
		copy(r.lines, r.lines[1:])
		r.lines = r.lines[:maxLines-1]
	}
	r.lines = append(r.lines, line)
}

// Lines returns the last lines, the oldest first.
func (r *Recent) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.lines...)
}
