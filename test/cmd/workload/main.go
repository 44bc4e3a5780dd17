// Command workload is what test containers run: one static program whose
// subcommands write the kinds of output that real programs write.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// commands are the subcommands. Each gets its own arguments.
var commands = map[string]func(args []string) error{
	"binary": binary,
	"blast":  blast,
	"burst":  burst,
	"json":   jsonLines,
	"long":   long,
	"notail": notail,
	"seq":    seq,
	"tally":  tallied,
	"trace":  trace,
	"web":    web,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: workload %s [options]\n", strings.Join(slices.Sorted(maps.Keys(commands)), "|"))
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "workload %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func options(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ExitOnError) }
