package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/dockline/dockline/internal/hostfile"
)

// file is a source that reads a list from a file: an entry a line, # for
// comments.
type file struct {
	name  string // as the host names it
	files hostfile.Places
}

func newFile(u *url.URL, host Host) (Source, error) {
	if u.Host != "" || !filepath.IsAbs(u.Path) || u.Scheme != "" {
		return nil, errors.New("not of the form file:///path/to/list")
	}
	f := file{filepath.Clean(u.Path), host.files()}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("a file has no parameters; its entries may")
	}
	return f, f.files.Check(f.name)
}

func (f file) String() string { return "file://" + f.name }

func (f file) ID() string { return f.String() }

const (
	// lookTime is how often a file is looked at that nobody said has changed: its
	// folder may have been replaced, or be on another host.
	lookTime = 30 * time.Second
	maxList  = 1 << 20 // bytes
	maxFile  = 1 << 20 // of other files, in bytes
)

func (f file) read() (string, error) {
	data, err := f.files.Read(f.name, maxList)
	if err != nil {
		return "", fmt.Errorf("read the list of collectors: %w", err)
	}
	return string(data), nil
}

// errNamed has an error name the file as the host does.
func errNamed(err error, name string) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return &fs.PathError{Op: of.Op, Path: name, Err: of.Err}
	}
	return err
}

// parse reads the list. An entry without a scheme is not repeated in an error:
// somebody may have named a file that is no list, and holds secrets.
func (f file) parse(text string) ([]Collector, error) {
	n := 0
	for line := range strings.Lines(uncomment(text)) {
		n++
		for _, entry := range strings.FieldsFunc(line, isSeparator) {
			if !strings.Contains(entry, "://") {
				return nil, fmt.Errorf("%s, line %d: an entry is not of the form scheme://host:port", f.name, n)
			}
			if kind, isSource := kindOf(entry); isSource {
				return nil, fmt.Errorf("%s, line %d: %s: a list in a file cannot name other sources", f.name, n, kind)
			}
		}
	}
	members, err := ParseList(uncomment(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return members, nil
}

// Follow watches the file's folder: editors and configuration managers replace
// a file rather than write into it, and the link to it may be what changes.
func (f file) Follow(ctx context.Context, set func([]Collector)) error {
	dir, err := f.files.Folder(f.name)
	if err != nil {
		return err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.name, err)
	}
	defer w.Close()
	tick := time.NewTicker(lookTime)
	defer tick.Stop()
	said, told := "", false
	for {
		// Every time, for the folder of that name may be another one by now.
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", f.name, errNamed(err, f.name))
		}
		text, err := f.read()
		if err != nil {
			return err
		}
		if !told || text != said {
			members, err := f.parse(text)
			if err != nil {
				return err
			}
			said, told = text, true
			set(members)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch %s: %w", f.name, err)
		case <-w.Events:
		case <-tick.C:
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
