package admin

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
)

// What changes something is not done by whoever only looks.
func TestMethods(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	done := 0
	s.Handle("/look", func(*http.Request) (any, error) { return "seen", nil })
	s.HandleChange("/change", func(*http.Request) (any, error) { done++; return "done", nil })
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/look", http.StatusOK},
		{"POST", "/look", http.StatusMethodNotAllowed},
		{"GET", "/change", http.StatusMethodNotAllowed},
		{"HEAD", "/change", http.StatusMethodNotAllowed},
		{"POST", "/change", http.StatusOK},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, nil))
		if w.Code != tc.status {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, w.Code, tc.status)
		}
	}
	if done != 1 {
		t.Errorf("changed %d times", done)
	}
}

// A plugin that refuses its work knows all calls, and says why to each.
func TestRefuse(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	s.Refuse(func() error { return errors.New("the disk is gone") })
	s.HandleProcess(func() []string { return nil })
	for path, want := range map[string]int{"/status": 500, "/anything/else": 500, "/version": 200, "/healthz": 200} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want || want == 500 && (w.Body.String() != "the disk is gone\n" || w.Header().Get(answered) == "") {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
}

// Profiles are there where they are asked for only.
func TestProfile(t *testing.T) {
	for _, on := range []bool{false, true} {
		s, want := New(slog.New(slog.DiscardHandler)), http.StatusNotFound
		if on {
			s.Profile()
			want = http.StatusOK
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/heap", nil))
		if w.Code != want {
			t.Errorf("%v: %d", on, w.Code)
		}
	}
}
