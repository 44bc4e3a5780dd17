// Package testleak fails a package's tests when goroutines that it started go on.
package testleak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is for goroutines that have been told to end, and that a busy machine
// has not let run since. [goleak] alone waits for less than half a second.
const patience = 30 * time.Second

// Main is a package's TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := find(); err != nil {
			fmt.Fprintln(os.Stderr, "the tests passed, and left goroutines behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func find() (err error) {
	for end := time.Now().Add(patience); ; {
		if err = goleak.Find(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
