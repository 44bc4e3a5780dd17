package neighbour

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

var (
	here = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	four = netip.MustParseAddr("192.0.2.7")
	six  = netip.MustParseAddr("2001:db8::7")
)

// The frames as RFC 5227, RFC 826 and RFC 4861 draw them.
func TestFrames(t *testing.T) {
	for name, tc := range map[string]struct {
		frame []byte
		want  string
	}{
		"ARP probe": {question(four, here, nil), "ffffffffffff" + "020000000001" + "0806" +
			"0001" + "0800" + "0604" + "0001" + "020000000001" + "00000000" + "000000000000" + "c0000207"},
		"ARP announcement": {announcement(four, here), "ffffffffffff" + "020000000001" + "0806" +
			"0001" + "0800" + "0604" + "0001" + "020000000001" + "c0000207" + "000000000000" + "c0000207"},
		"ARP probe of one machine": {question(four, here, net.HardwareAddr{2, 0, 0, 0, 0, 9})[:14], "020000000009" + "020000000001" + "0806"},
		"solicitation": {question(six, here, nil)[:54], "3333ff000007" + "020000000001" + "86dd" + "60000000" + "0020" + "3aff" +
			"fe80000000000000" + "000000fffe000001" + "ff0200000000000000000001ff000007"},
		"advertisement": {announcement(six, here)[:54], "333300000001" + "020000000001" + "86dd" + "60000000" + "0020" + "3aff" +
			"20010db8000000000000000000000007" + "ff020000000000000000000000000001"},
	} {
		if got := hex.EncodeToString(tc.frame); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tc.want)
		}
	}
}

func TestClaims(t *testing.T) {
	spoil := func(f []byte, at int, with byte) []byte { f[at] = with; return f }
	reply := arp(arpReply, here, net.HardwareAddr{2, 0, 0, 0, 0, 9}, four, four)
	solicited := nd(advertisement, flagSolicited|flagOverride, here, net.HardwareAddr{2, 0, 0, 0, 0, 9}, six, linkLocal(here), six, optTarget)
	for name, tc := range map[string]struct {
		frame  []byte
		of     netip.Addr // invalid: no claim
		mac    string
		answer bool
	}{
		"ARP probe":                  {frame: question(four, here, nil)},
		"ARP announcement":           {frame: announcement(four, here), of: four, mac: "02:00:00:00:00:01"},
		"ARP reply":                  {frame: reply, of: four, mac: "02:00:00:00:00:09", answer: true},
		"advertisement":              {frame: announcement(six, here), of: six, mac: "02:00:00:00:00:01"},
		"solicited advertisement":    {frame: solicited, of: six, mac: "02:00:00:00:00:09", answer: true},
		"solicitation":               {frame: question(six, here, nil), of: linkLocal(here), mac: "02:00:00:00:00:01"},
		"cut off":                    {frame: announcement(six, here)[:60]},
		"shorter than ARP":           {frame: announcement(four, here)[:41]},
		"a wrong checksum":           {frame: spoil(announcement(six, here), icmpAt+2, 0)},
		"from behind a router":       {frame: spoil(announcement(six, here), etherLen+7, 64)},
		"ARP of another kind":        {frame: spoil(announcement(four, here), etherLen+7, 9)},
		"ARP with a group's address": {frame: spoil(announcement(four, here), etherLen+8, 1)},
		"IPv4":                       {frame: spoil(announcement(four, here), 13, 0)},
	} {
		c, ok := parse(tc.frame)
		if ok != tc.of.IsValid() || ok && (c.Addr != tc.of || c.MAC.String() != tc.mac || c.Answer != tc.answer) {
			t.Errorf("%s: %+v, %v", name, c, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, frame := range [][]byte{announcement(four, here), announcement(six, here), question(six, here, nil), question(four, here, nil)} {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if c, ok := parse(frame); ok && (!c.Addr.IsValid() || len(c.MAC) != 6) {
			t.Errorf("%x is a claim %+v", frame, c)
		}
	})
}
