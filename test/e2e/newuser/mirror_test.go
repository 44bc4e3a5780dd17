package newuser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

const (
	kept        = "/var/cache/dockline-test/archive"
	keepFor     = 60 * 24 * time.Hour // after it was last served
	fetchTime   = 5 * time.Minute
	mirrorPlace = "192.168.1.2:80"
)

// mirror is the Debian mirror of a LAN whose machines reach nothing else. What it
// has served once it keeps, and serves again when the archive is out of reach;
// files of packages, which never change, it does not ask for twice.
type mirror struct{ upstream string }

// serveMirror has a station of the LAN be one until the test ends.
func serveMirror(t *testing.T, s *hosts.Station) {
	t.Helper()
	upstream, err := debian.Mirror(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := forgetOld(); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := s.Do(func() (err error) {
		l, err = net.Listen("tcp", mirrorPlace)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mirror{strings.TrimSuffix(upstream, "/")}, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// ServeHTTP implements http.Handler.
func (m mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := filepath.Clean(r.URL.Path)
	file := filepath.Join(kept, path)
	if _, err := os.Stat(file); err != nil || !strings.HasSuffix(path, ".deb") {
		switch status, err := m.fetch(r.Context(), path, file); {
		case status == http.StatusNotFound:
			http.NotFound(w, r)
			return
		case err != nil && !exists(file):
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	}
	now := time.Now()
	_ = os.Chtimes(file, now, time.Time{}) // for forgetOld alone
	http.ServeFile(w, r, file)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// fetch puts what the archive has at a path into the file, with its time.
func (m mirror) fetch(ctx context.Context, path, file string) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTime, errors.New("the archive is too slow"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.upstream+path, nil)
	if err != nil {
		return 0, fmt.Errorf("ask the archive for %s: %w", path, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask the archive for %s: %w", path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, fmt.Errorf("ask the archive for %s: %s", path, res.Status)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return 0, fmt.Errorf("keep %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new")
	if err != nil {
		return 0, fmt.Errorf("keep %s: %w", path, err)
	}
	_, err = io.Copy(tmp, res.Body)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("keep %s: %w", path, err), os.Remove(tmp.Name()))
	}
	if at, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		_ = os.Chtimes(file, time.Time{}, at)
	}
	return res.StatusCode, nil
}

// forgetOld deletes what was not served for long: versions that are superseded.
func forgetOld() error {
	err := filepath.WalkDir(kept, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return err
		}
		if time.Since(time.Unix(st.Atim.Unix())) > keepFor {
			return os.Remove(path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look through what the mirror keeps: %w", err)
	}
	return nil
}
