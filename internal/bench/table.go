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
	title     string
	unit      unit
	reference string               // the candidate that the others are compared with
	samples   map[string][]float64 // by the candidate's name
}

// unit says how a number is written.
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

// writeTable prints a column for each name: the median, the smallest and the largest sample, and the ratio to the
// reference.
func writeTable(w io.Writer, rows []row, names []string) {
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
	if len(samples) == 0 {
		return "–"
	}
	text := strings.TrimSpace("**" + r.unit.format(median(samples)) + "** " + r.unit.name)
	if len(samples) > 1 {
		text += fmt.Sprintf(" (%s–%s)", r.unit.format(slices.Min(samples)), r.unit.format(slices.Max(samples)))
	}
	if base := r.samples[r.reference]; name != r.reference && len(base) > 0 {
		text += ratio(median(samples), median(base))
	}
	return text
}

func ratio(v, base float64) string {
	switch {
	case v <= 0 || base <= 0:
		return ""
	case v < base*0.95:
		return fmt.Sprintf(", 1/%.1f", base/v)
	default:
		return fmt.Sprintf(", ×%.2f", v/base)
	}
}
