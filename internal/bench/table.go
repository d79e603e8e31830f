//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// row is one line of the table: what was measured of each candidate.
type row struct {
	title   string
	unit    unit
	samples map[string][]float64 // by the candidate's name
	failed  map[string]bool
}

// unit is how a number is written.
type unit struct {
	name   string
	factor float64 // what one of it is in the unit that is measured in: nanoseconds, bytes
	digits int
}

var (
	milliseconds = unit{"ms", 1e6, 2}
	megabytes    = unit{"MB", 1e6, 2}
	plain        = unit{"", 1, 0}
)

func (u unit) format(v float64) string { return fmt.Sprintf("%.*f", u.digits, v/u.factor) }

func median(samples []float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// writeTable prints a column for each candidate: the median, its ratio to that of start_server, and
// the smallest and the largest sample.
func writeTable(w io.Writer, rows []row, candidates []candidate) {
	var names []string
	for _, c := range candidates {
		names = append(names, c.name)
	}
	fmt.Fprintf(w, "| | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---:|", len(names)))
	for _, r := range rows {
		fmt.Fprintf(w, "| %s |", r.title)
		for _, name := range names {
			fmt.Fprintf(w, " %s |", r.cell(name))
		}
		fmt.Fprintln(w)
	}
}

func (r row) cell(name string) string {
	samples := r.samples[name]
	switch {
	case r.failed[name]:
		return "failed"
	case len(samples) == 0:
		return "–"
	}
	text := strings.TrimSpace("**" + r.unit.format(median(samples)) + "** " + r.unit.name)
	if base := r.samples[subject]; name != subject && len(base) > 0 && median(base) > 0 {
		text += fmt.Sprintf(" ×%.2f", median(samples)/median(base))
	}
	if len(samples) > 1 {
		text += fmt.Sprintf(" (%s–%s)", r.unit.format(slices.Min(samples)), r.unit.format(slices.Max(samples)))
	}
	return text
}
