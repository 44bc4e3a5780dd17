package trace

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// Whatever comes in by the raw socket is read without a panic, and is taken for
// an answer only where it names the echo.
func FuzzEchoRead(f *testing.F) {
	reply := []byte{0, 0, 0, 0, 0x12, 0x34, 0, 7}
	quoted := append([]byte{3, 4, 0, 0, 0, 0, 0x05, 0x78, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 7, 0, 2, 10, 7, 0, 3}, 8, 0, 0, 0, 0x12, 0x34, 0, 9)
	for _, b := range [][]byte{reply, quoted, {}, quoted[:12], {129, 0, 0, 0, 0x12, 0x34, 0, 7}} {
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		to := netip.MustParseAddr("10.7.0.3")
		if v6 {
			to = netip.MustParseAddr("fd00::3")
		}
		e := &echoer{to: to, id: 0x1234}
		h, ok := e.read(b, to)
		if ok && h.code == "" && binary.BigEndian.Uint16(b[4:]) != 0x1234 {
			t.Errorf("took %x for an answer", b)
		}
	})
}

func TestEchoRead(t *testing.T) {
	e := &echoer{to: netip.MustParseAddr("10.7.0.3"), id: 0x1234}
	router := netip.MustParseAddr("10.7.0.1")
	quote := func(kind, code byte) []byte {
		return append([]byte{kind, code, 0, 0, 0, 0, 0x05, 0x78, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 7, 0, 2, 10, 7, 0, 3}, 8, 0, 0, 0, 0x12, 0x34, 0, 9)
	}
	for name, tc := range map[string]struct {
		b    []byte
		code string
		mtu  int
	}{
		"too big":     {quote(3, 4), tooBig, 0x578},
		"prohibited":  {quote(3, 13), Prohibited, 0},
		"host":        {quote(3, 1), HostUnreachable, 0},
		"port":        {quote(3, 3), OtherError, 0},
		"loop":        {quote(11, 0), TimeExceeded, 0},
		"no error":    {quote(8, 0), "", 0},
		"other's":     {append(quote(3, 1)[:32], 0, 1, 0, 9), "", 0},
		"to another":  {append(quote(3, 1)[:24], 10, 7, 0, 4, 8, 0, 0, 0, 0x12, 0x34, 0, 9), "", 0},
		"cut off":     {quote(3, 1)[:30], "", 0},
		"router says": {[]byte{0, 0, 0, 0, 0x12, 0x34, 0, 7}, "", 0}, // a reply from another machine
	} {
		h, ok := e.read(tc.b, router)
		if ok != (tc.code != "") || h.code != tc.code && ok || ok && (h.mtu != tc.mtu || h.seq != 9) {
			t.Errorf("%s: %+v, %v", name, h, ok)
		}
	}
}
