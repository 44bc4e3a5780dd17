package debian

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// MirrorVariable names the environment variable that overrides the mirror which
// the machine's apt uses, for machines that are no Debian.
const MirrorVariable = "DOCKLINE_TEST_MIRROR"

var errNoMirror = errors.New("the machine's apt knows no Debian mirror: set " + MirrorVariable)

// Mirror is the URL of the Debian archive that the machine's apt is configured for.
func Mirror(ctx context.Context) (string, error) {
	if m := os.Getenv(MirrorVariable); m != "" {
		return m, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(REPO_URI) $(RELEASE) $(ORIGIN) $(LABEL)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	return mirrorOf(string(out), string(codename()))
}

// mirrorOf picks the main archive from apt's list: not the one of security
// updates, whose label differs, nor those of other vendors. The lists that apt
// takes origin and label from may be missing, so the release does too.
func mirrorOf(targets, codename string) (string, error) {
	second := ""
	for line := range strings.Lines(targets) {
		uri, about, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasSuffix(about, " Debian Debian") {
			return uri, nil
		}
		if codename != "" && about == codename+" $(ORIGIN) $(LABEL)" && second == "" {
			second = uri
		}
	}
	if second == "" {
		return "", errNoMirror
	}
	return second, nil
}

// codename is the machine's own release, "" where it is no Debian.
func codename() Suite {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return ""
	}
	defer f.Close()
	values := make(map[string]string)
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		values[key] = strings.Trim(value, `"`)
	}
	if values["ID"] != "debian" {
		return ""
	}
	return Suite(values["VERSION_CODENAME"])
}
