// Command routesim prints what the log plugin's routing does with a fleet, as
// docs/routing.md has it, and writes the collectors' loads for a plot.
package main

import (
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/dockline/dockline/test/routesim"
)

func main() {
	var f routesim.Fleet
	flag.IntVar(&f.Hosts, "hosts", 10000, "hosts")
	flag.IntVar(&f.Streams, "streams", 50, "streams of each host")
	flag.IntVar(&f.Collectors, "collectors", 200, "collectors")
	flag.Float64Var(&f.Zipf, "zipf", 1.1, "exponent of the streams' byte rates")
	flag.Uint64Var(&f.Seed, "seed", 1, "seed of the streams' keys")
	loads := flag.String("loads", "", "a CSV file to write the loads to")
	flag.Parse()
	if err := run(f, *loads); err != nil {
		fmt.Fprintln(os.Stderr, "routesim:", err)
		os.Exit(1)
	}
}

func run(f routesim.Fleet, loads string) error {
	if f.Hosts < 1 || f.Streams < 1 || f.Collectors < 3 {
		return errors.New("a fleet has hosts with streams, and at least three collectors")
	}
	res, err := routesim.Run(f)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "figure\tmeasured\ttheory\tsigma\t")
	for _, x := range res.Figures {
		fmt.Fprintf(w, "%s\t%.5g\t%.5g\t%.2g\t\n", x.Name, x.Measured, x.Theory, x.Sigma)
	}
	if err := w.Flush(); err != nil || loads == "" {
		return err
	}
	return write(loads, res.Loads)
}

// write writes a column for each kind of load.
func write(path string, loads []routesim.Load) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	c := csv.NewWriter(file)
	var head []string
	for _, l := range loads {
		head = append(head, l.Name)
	}
	_ = c.Write(head) // errors are kept for Flush
	for i := range loads[0].Ratio {
		var row []string
		for _, l := range loads {
			row = append(row, strconv.FormatFloat(l.Ratio[i], 'g', 6, 64))
		}
		_ = c.Write(row)
	}
	c.Flush()
	return errors.Join(c.Error(), file.Close())
}
