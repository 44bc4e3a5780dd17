// Package privilege gives up what a plugin does not need of the capabilities
// that the engine starts it with.
package privilege

import (
	"fmt"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Keep drops every capability of the whole process except those named, from
// the permitted, effective, inheritable, ambient and bounding sets, and sets
// no_new_privs so that nothing can be got back by executing a file. Call it
// first thing in main: it cannot be undone.
func Keep(keep ...cap.Value) error {
	wanted := make(map[cap.Value]bool, len(keep))
	for _, v := range keep {
		wanted[v] = true
	}
	for v := cap.Value(0); v < cap.MaxBits(); v++ {
		if in, err := cap.GetBound(v); err != nil || !in || wanted[v] {
			continue
		}
		if err := cap.DropBound(v); err != nil {
			return fmt.Errorf("drop %v from the bounding set: %w", v, err)
		}
	}
	if err := cap.ResetAmbient(); err != nil {
		return fmt.Errorf("reset the ambient capabilities: %w", err)
	}
	set := cap.NewSet()
	for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
		if err := set.SetFlag(flag, true, keep...); err != nil {
			return fmt.Errorf("build the capability set: %w", err)
		}
	}
	if err := set.SetProc(); err != nil {
		return fmt.Errorf("set the capabilities to %q: %w", set, err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}
