package sinktest

import (
	"net/url"
	"strings"
	"testing"
)

// URL is a collector's, and what the error says that it is refused with, "" where
// it is not.
type URL struct{ URL, Err string }

// CheckURLs makes sinks of collectors' URLs. No error may tell a password, which in
// all of them is "secret".
func CheckURLs(t *testing.T, newSink New, all []URL) {
	t.Helper()
	host := Host()
	host.Config = t.TempDir()
	for _, tc := range all {
		u, err := url.Parse(tc.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newSink(u, host)
		if tc.Err == "" && err != nil || tc.Err != "" && (err == nil || !strings.Contains(err.Error(), tc.Err)) {
			t.Errorf("%.80s: %v, want %q", tc.URL, err, tc.Err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%.80s: the error tells the password", tc.URL)
		}
	}
}
