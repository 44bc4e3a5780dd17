package discover

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// file is a source that reads a list from a file: an entry a line, # for
// comments.
type file struct {
	name string // as the host names it
	path string
}

func newFile(u *url.URL, host Host) (Source, error) {
	if u.Host != "" || !filepath.IsAbs(u.Path) || u.Scheme != "" {
		return nil, errors.New("not of the form file:///path/to/list")
	}
	return file{filepath.Clean(u.Path), host.path(u.Path)}, nil
}

func (f file) String() string { return "file://" + f.name }

func (f file) ID() string { return f.String() }

// Follow watches the file's folder: editors and configuration managers replace
// a file rather than write into it, and the link to it may be what changes.
func (f file) Follow(ctx context.Context, set func([]Collector)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.name, err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("watch %s: %w", f.name, err)
	}
	said := ""
	for {
		data, err := os.ReadFile(f.path)
		if err != nil {
			return fmt.Errorf("read the list of collectors: %w", err)
		}
		if string(data) != said {
			members, err := ParseList(uncomment(string(data)))
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			said = string(data)
			set(members)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch %s: %w", f.name, err)
		case <-w.Events:
		}
	}
}

func uncomment(list string) string {
	var out strings.Builder
	for line := range strings.Lines(list) {
		before, _, _ := strings.Cut(line, "#")
		out.WriteString(before + "\n")
	}
	return out.String()
}
