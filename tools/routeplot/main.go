// Command routeplot draws the collectors' loads that test/cmd/routesim wrote:
//
//	go run ./test/cmd/routesim -loads build/loads.csv
//	go run -C tools/routeplot . ../../build/loads.csv ../../docs/routing.svg
package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: routeplot LOADS.csv PLOT.svg")
		os.Exit(2)
	}
	if err := draw(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "routeplot:", err)
		os.Exit(1)
	}
}

func draw(from, to string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return err
	}
	if len(rows) < 2 {
		return fmt.Errorf("%s holds no loads", from)
	}
	p := plot.New()
	p.Title.Text = "Bytes per collector"
	p.X.Label.Text = "collectors, the most loaded first"
	p.Y.Label.Text = "load over the mean"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top = true
	for column, name := range rows[0] {
		points := make(plotter.XYs, len(rows)-1)
		for i, row := range rows[1:] {
			y, err := strconv.ParseFloat(row[column], 64)
			if err != nil {
				return err
			}
			points[i] = plotter.XY{X: float64(i + 1), Y: y}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Color, line.Dashes = plotutil.Color(column), plotutil.Dashes(column)
		line.Width = vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(name, line)
	}
	return p.Save(18*vg.Centimeter, 11*vg.Centimeter, to)
}
