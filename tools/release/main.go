// Command release makes of built plugins and programs what a release is made of,
// and pushes the plugins to a registry. It needs no engine. What it writes
// depends on what it reads and on the Go release that it was built by alone.
//
//	release pack -version VERSION -date UNIX BUILT OUT
//	release push DIR REGISTRY
//
// BUILT has a folder for each architecture, amd64 and so on, and in it a folder
// for each plugin, with config.json and rootfs, and each program as a file.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

const usage = `usage: release pack -version VERSION -date UNIX BUILT OUT
       release push DIR REGISTRY`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("release", flag.ExitOnError)
	f.Usage = func() { fmt.Fprintln(f.Output(), usage) }
	version := f.String("version", "", "")
	date := f.Int64("date", 0, "")
	if len(args) == 0 {
		f.Usage()
		os.Exit(2)
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch {
	case args[0] == "pack" && f.NArg() == 2 && *version != "":
		return pack(f.Arg(0), f.Arg(1), release{*version, time.Unix(*date, 0).UTC()})
	case args[0] == "push" && f.NArg() == 2:
		return push(f.Arg(0), f.Arg(1))
	}
	f.Usage()
	os.Exit(2)
	return nil
}
