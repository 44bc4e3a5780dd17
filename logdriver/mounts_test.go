package logdriver

import (
	"strings"
	"testing"
)

const mountInfo = `445 1 0:50 / / rw - overlay overlay rw
462 445 254:0 /d/plugins/abc/propagated-mount /run/docker/logging rw shared:12 - ext4 /dev/vda rw
463 445 254:0 SOURCE /spool rw shared:13 - ext4 /dev/vda rw
464 445 254:0 /run/docker/plugins/abc /run/docker/plugins rw shared:13 - ext4 /dev/vda rw
`

func TestMountedFrom(t *testing.T) {
	for source, want := range map[string]string{
		"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby/abc/rootfs": "",
		"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby/abc":        "", // source set to nothing
		"/data/x":          "/dev/vda:/data/x",
		`/data/a\040b`:     "/dev/vda:/data/a b",
		"/data/abd/rootfs": "/dev/vda:/data/abd/rootfs",
	} {
		info := []byte(strings.Replace(mountInfo, "SOURCE", source, 1))
		if got := mountedFrom(info, "/spool"); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
	if got := mountedFrom([]byte(mountInfo), "/nothing"); got != "" {
		t.Errorf("nothing is mounted there: %q", got)
	}
}
