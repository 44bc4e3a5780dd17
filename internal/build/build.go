// Package build says which build of dockline a program is.
package build

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// Version, Commit and Date are set when it is linked (scripts/version.sh).
// Date is the commit's, in RFC 3339, so that two builds of it are the same.
var (
	Version = "devel"
	Commit  = "unknown"
	Date    = "unknown"
)

// Line is what a program says of itself when it is asked for its version.
func Line(name string) string {
	return fmt.Sprintf("%s %s, commit %s of %s, %s %s/%s", name, Version, Commit, Date, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Labels are those of the metric build_info, in the order of Values.
func Labels() []string { return []string{"version", "commit", "date", "goversion"} }

// Values are what this program has of them.
func Values() []string { return []string{Version, Commit, Date, runtime.Version()} }

// Info returns the metric build_info of a plugin. desc describes it.
func Info(desc *prometheus.Desc) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1, Values()...)
}
