package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/dockline/dockline/test/harness/tally"
)

// tallied runs any program, passes on what it writes as it is, and leaves the
// tally of it in the container, from where a test can copy it.
func tallied(args []string) error {
	if len(args) == 0 {
		return errors.New("there is no command to run")
	}
	cmd := exec.Command(args[0], args[1:]...)
	var out, errs tally.Writer
	cmd.Stdin = os.Stdin
	cmd.Stdout = io.MultiWriter(os.Stdout, &out)
	cmd.Stderr = io.MultiWriter(os.Stderr, &errs)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	go func() { // ends with the process
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	_, _ = out.Close(), errs.Close()
	data, jerr := json.Marshal(tally.Output{Stdout: out.Lines, Stderr: errs.Lines})
	if jerr == nil {
		jerr = os.WriteFile(tally.Path, data, 0o644)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && jerr == nil {
		os.Exit(max(exit.ExitCode(), 1)) // as its child did; -1 is a signal
	}
	return errors.Join(err, jerr)
}
