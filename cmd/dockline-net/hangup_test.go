package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/state"
)

const asPlugin = "DOCKLINE_NET_TEST_IS_THE_PLUGIN"

// A hangup that comes while the plugin starts does not end it.
func TestAHangupAtTheStart(t *testing.T) {
	if os.Getenv(asPlugin) != "" {
		os.Args = append(os.Args[:1], "-socket", os.Getenv(asPlugin), "-state", filepath.Dir(os.Getenv(asPlugin)))
		main()
		return
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "x.sock")
	held, err := state.Open(dir, "boot") // the start waits for that
	if err != nil {
		t.Fatal(err)
	}
	plugin := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	plugin.Env = append(os.Environ(), asPlugin+"="+socket)
	plugin.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	plugin.Stderr = os.Stderr
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- plugin.Wait() }()
	for {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the plugin ended: %v", err)
		case <-time.After(10 * time.Millisecond): // there is nothing to subscribe to
		}
	}
	if err := errors.Join(plugin.Process.Signal(syscall.SIGHUP), held.Close()); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	res, err := client.Post("http://plugin/IpamDriver.GetDefaultAddressSpaces", "", nil) // served when the start is over
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if err := plugin.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the plugin ended: %v", err)
	}
}
