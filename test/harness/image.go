package harness

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness/tally"
)

// Image is the name under which LoadImage leaves the test image.
const Image = "dockline-test:latest"

// LoadImage gives the engine an image without any registry: Debian's static
// busybox with its applets, and the workload program, all in /bin. dir takes
// what is built on the way.
func (d Docker) LoadImage(ctx context.Context, dir string) error {
	rootfs, err := Rootfs(ctx, dir)
	if err != nil {
		return err
	}
	_, err = d.RunInput(ctx, rootfs, "import",
		"--change", "ENV PATH=/bin", "--change", `CMD ["sh"]`, "--change", "LABEL io.dockline.test=yes",
		"-", Image)
	return err
}

// made is the test image's files, which every engine of a test run gets.
var made struct {
	sync.Mutex // guards the rest
	rootfs     []byte
}

// Rootfs is the files of the test image, as docker import takes them. They are
// made once.
func Rootfs(ctx context.Context, dir string) (*bytes.Buffer, error) {
	made.Lock()
	defer made.Unlock()
	if made.rootfs == nil {
		workload, err := BuildProgram(ctx, dir, "workload")
		if err != nil {
			return nil, err
		}
		rootfs, err := imageTar(ctx, workload)
		if err != nil {
			return nil, err
		}
		made.rootfs = rootfs.Bytes()
	}
	return bytes.NewBuffer(slices.Clip(made.rootfs)), nil
}

// BuildProgram builds one of the programs below test/cmd, static, into dir and
// returns its path.
func BuildProgram(ctx context.Context, dir, name string) (string, error) {
	top, err := ModuleDir()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, "./test/cmd/"+name)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, msg)
	}
	return out, nil
}

func imageTar(ctx context.Context, workload string) (*bytes.Buffer, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("find busybox (scripts/setup.sh installs it): %w", err)
	}
	applets, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the applets of busybox: %w", err)
	}
	buf := new(bytes.Buffer)
	w := tar.NewWriter(buf)
	for _, dir := range []string{"bin/", "etc/", "tmp/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return nil, fmt.Errorf("write the image: %w", err)
		}
	}
	for name, from := range map[string]string{"bin/busybox": busybox, "bin/workload": workload} {
		if err := addFile(w, name, from); err != nil {
			return nil, err
		}
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		link := &tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink, Mode: 0o777}
		if applet == "busybox" {
			continue
		}
		if err := w.WriteHeader(link); err != nil {
			return nil, fmt.Errorf("write the image: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write the image: %w", err)
	}
	return buf, nil
}

func addFile(w *tar.Writer, name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read what goes into the image: %w", err)
	}
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data)), ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	return nil
}

// Tally copies what the workload program tallied from a container that has ended.
func (d Docker) Tally(ctx context.Context, container string) (tally.Output, error) {
	var out tally.Output
	data, stderr, err := d.Output(ctx, nil, "cp", container+":"+tally.Path, "-")
	if err != nil {
		return out, &CommandError{Args: []string{"cp", container}, Output: string(stderr), Err: err}
	}
	r := tar.NewReader(bytes.NewReader(data))
	if _, err := r.Next(); err != nil {
		return out, fmt.Errorf("read the tally of %s: %w", container, err)
	}
	if err := json.NewDecoder(r).Decode(&out); err != nil {
		return out, fmt.Errorf("read the tally of %s: %w", container, err)
	}
	return out, nil
}
