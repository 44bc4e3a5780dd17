package logdriver

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// Where config.json has what is the host's mounted.
const (
	configMount  = "/config"
	spoolMount   = "/spool"
	journalMount = "/journal"
	socketMount  = "/run/docker/plugins" // a directory of the host with the plugin's id for a name
)

// FindMounts finds out whether directories of the host are mounted for the spool
// and the configuration.
func (c *Config) FindMounts() error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look where the spool is to be: %w", err)
	}
	if c.ConfigMountedFrom = mountedFrom(info, configMount); c.ConfigMountedFrom != "" {
		c.ConfigMount = configMount
	}
	c.JournalMount = journalMount
	if c.SpoolMountedFrom = mountedFrom(info, spoolMount); c.SpoolMountedFrom != "" {
		c.SpoolMount = spoolMount
	}
	return nil
}

// mountedFrom returns what is mounted at a directory, as device and path there,
// or "" where nothing is but the empty directory that config.json names: a
// relative source is taken from the folder that the engine makes for each run
// of the plugin, which is named after the plugin's id.
func mountedFrom(mountinfo []byte, dir string) string {
	var from, id string
	for line := range strings.Lines(string(mountinfo)) {
		f := strings.Fields(line) // id, parent, device, root, mount point, …, "-", type, source
		if len(f) < 5 {
			continue
		}
		switch root := unescape.Replace(f[3]); unescape.Replace(f[4]) {
		case socketMount:
			id = path.Base(root)
		case dir:
			from = f[2] + ":" + root
			if _, rest, ok := strings.Cut(line, " - "); ok && len(strings.Fields(rest)) > 1 {
				from = strings.Fields(rest)[1] + ":" + root
			}
		}
	}
	if id != "" && (strings.HasSuffix(from, "/"+id+"/rootfs") || strings.HasSuffix(from, "/"+id)) {
		return ""
	}
	return from
}

// unescape undoes what the kernel does to odd characters (fs/proc_namespace.c).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
