package vm

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
)

const machineTime = 9 * time.Minute

// The network plugin's tests of VLANs, on a kernel that has them.
func TestVLAN(t *testing.T) {
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), machineTime, errors.New("the machine takes too long"))
	defer cancel()
	scratch := t.TempDir()
	program := filepath.Join(scratch, "engine.test")
	if err := Build(ctx, top, "test", "-c", "-tags", "vm", "-ldflags", "-s -w", "-o", program, "./netdriver/engine"); err != nil {
		t.Fatal(err)
	}
	var console strings.Builder
	run := &Run{
		Program: program, Args: []string{"-test.v", "-test.run", "VLAN"},
		Modules: []string{"8021q", "macvlan", "veth", "bridge", "nf_tables", "ipv6", "sch_ingress", "cls_u32", "act_mirred", "af_packet", "xfrm_user"},
		Console: &console, Scratch: scratch,
	}
	code, err := run.Do(ctx, top)
	if err != nil || code != 0 || strings.Count(console.String(), "--- PASS: TestVLAN") == 0 || strings.Contains(console.String(), "--- FAIL") {
		t.Fatalf("ended with %d, %v; its console:\n%s", code, err, console.String())
	}
	for line := range strings.Lines(console.String()) {
		if strings.Contains(line, "--- PASS") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
