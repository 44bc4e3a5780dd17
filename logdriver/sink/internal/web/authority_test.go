package web

import "testing"

// TestAuthority: the header names the port unless it is HTTP's own (RFC 9110
// section 7.2).
func TestAuthority(t *testing.T) {
	for _, tc := range []struct{ scheme, addr, want string }{
		{"otlp+http", "h:4318", "h:4318"}, {"json+http", "h:80", "h"}, {"json+https", "h:80", "h:80"}, {"json+https", "h:443", "h"}, {"loki+http", "[::1]:3100", "[::1]:3100"},
	} {
		if got := authority(tc.scheme, tc.addr); got != tc.want {
			t.Errorf("%s, %s: %s, want %s", tc.scheme, tc.addr, got, tc.want)
		}
	}
}
