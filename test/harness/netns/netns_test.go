package netns

import (
	"fmt"
	"net"
	"os"
	"testing"
)

func TestDoAndCommandAreInside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making namespaces needs root")
	}
	name := fmt.Sprintf("dtest%d", os.Getpid())
	if err := Add(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 { // the second time it is missing
			if err := Delete(name); err != nil {
				t.Error(err)
			}
		}
		if left, err := WithPrefix(name); err != nil || len(left) > 0 {
			t.Errorf("%v is left (%v)", left, err)
		}
	})
	if err := IP(t.Context(), "-n", name, "link", "add", "inside", "type", "bridge"); err != nil {
		t.Fatal(err)
	}
	err := Do(name, func() error {
		_, err := net.InterfaceByName("inside")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := net.InterfaceByName("inside"); err == nil {
		t.Error("the machine has the interface that was made in a namespace")
	}
	if out, err := Command(t.Context(), name, "ip", "link", "show", "inside").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
