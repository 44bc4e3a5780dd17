// Command sweep removes the engines, mounts and files that test runs left
// behind that were killed. Runs under way are not touched.
package main

import (
	"fmt"
	"os"

	"github.com/dockline/dockline/test/harness/lab"
)

func main() {
	if err := lab.SweepAll(lab.Base()); err != nil {
		fmt.Fprintln(os.Stderr, "sweep:", err)
		os.Exit(1)
	}
	fmt.Println("sweep: nothing of a dead test run is left below", lab.Base())
}
