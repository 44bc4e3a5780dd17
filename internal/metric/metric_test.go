package metric

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func table() *Table {
	return New("x_",
		Group{"First", []Metric{
			{Name: "info", Type: Gauge, Labels: []string{"a", "b"}, Help: "One.", Do: "Look."},
			{Name: "done_total", Type: Counter, Help: "Two."},
		}},
		Group{"Second", []Metric{{Name: "took_seconds", Type: Histogram, Labels: []string{"call"}, Help: "Three."}}},
	)
}

func TestMarkdown(t *testing.T) {
	const want = "### First\n\n| metric | type | labels | what it is | what to make of it |\n|---|---|---|---|---|\n" +
		"| `x_info` | gauge | `a`, `b` | One. | Look. |\n| `x_done_total` | counter |  | Two. |  |\n\n" +
		"### Second\n\n| metric | type | labels | what it is | what to make of it |\n|---|---|---|---|---|\n" +
		"| `x_took_seconds` | histogram | `call` | Three. |  |\n"
	if got := table().Markdown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is not in the table, or there twice, is a mistake in the program.
func TestMistakes(t *testing.T) {
	ch := make(chan prometheus.Metric, 1)
	for name, mistake := range map[string]func(){
		"unknown": func() { table().Put(ch, "other", 1) },
		"labels":  func() { table().Put(ch, "info", 1, "only one") },
		"twice": func() {
			New("", Group{"", []Metric{{Name: "a", Type: Gauge, Help: "h"}, {Name: "a", Type: Gauge, Help: "h"}}})
		},
		"not described": func() { New("", Group{"", []Metric{{Name: "a", Type: Gauge}}}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("nobody minds")
				}
			}()
			mistake()
		})
	}
}
