package loopback

import "testing"

func TestIs(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9": true, "[::1]:80": true, "::1": true, "[::1]": true, "[::ffff:127.0.0.1]:1": true,
		"localhost": true, "LOCALHOST.:80": true, "": false, ":80": false, "10.0.0.1:1": false, "localhost.example:1": false,
		"127.0.0.1.example": false, "0.0.0.0:1": false, "[::]:1": false,
	} {
		if Is(addr) != want {
			t.Errorf("%q: %v", addr, !want)
		}
	}
}
