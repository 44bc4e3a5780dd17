// Package build says which build of dockline a program is.
package build

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// Version, Commit and Date are set when a release is linked (scripts/rootfs.sh).
// Date is the commit's, in RFC 3339, so that two builds of it are the same.
var (
	Version = "devel"
	Commit  = "unknown"
	Date    = "unknown"
)

// Labels are those of the metric build_info, in the order of Values.
func Labels() []string { return []string{"version", "commit", "date", "goversion"} }

// Values are what this program has of them.
func Values() []string { return []string{Version, Commit, Date, runtime.Version()} }

// Info returns the metric build_info of a plugin. desc describes it.
func Info(desc *prometheus.Desc) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1, Values()...)
}
