package admin

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// installed is the path of a plugin's binary in an engine's data root.
var installed = regexp.MustCompile(`/plugins/([0-9a-f]{64})/rootfs/`)

// OwnSocket finds the admin socket of the plugin that the running binary is the
// one of, as the host sees it.
func OwnSocket() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find out which plugin this is: %w", err)
	}
	m := installed.FindStringSubmatch(self)
	if m == nil {
		return "", fmt.Errorf("%s lies in no plugin's folder (DATA-ROOT/plugins/ID/rootfs): say with -socket which plugin is meant", self)
	}
	return filepath.Join("/run/docker/plugins", m[1], "admin.sock"), nil
}
