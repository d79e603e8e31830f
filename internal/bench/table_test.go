//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestWriteTable(t *testing.T) {
	t.Parallel()
	candidates := []candidate{{subject, "", full}, {"Perl", "", classic}, {"bare", "", bare}, {"peer", "", classic}}
	rows := []row{{
		title:   "start",
		unit:    milliseconds,
		samples: map[string][]float64{subject: {3e6, 1e6, 2e6, 9e6}, "Perl": {50e6}, "peer": {1e6}},
		failed:  map[string]bool{"peer": true},
	}}
	var got strings.Builder
	writeTable(&got, rows, candidates)
	const want = `| | start_server | Perl | bare | peer |
|---|---:|---:|---:|---:|
| start | **2.50** ms (1.00–9.00) | **50.00** ms ×20.00 | – | failed |
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// TestSelected: every key that -run lists selects a figure, and nothing else does.
func TestSelected(t *testing.T) {
	t.Parallel()
	if n, all := len(selected("ports,start", 0)), len(selected("", 0)); n != 3 || all < n {
		t.Errorf("selected %d of %d figures, want 3", n, all)
	}
	if n := len(selected("star", 0)); n != 0 {
		t.Errorf("%d figures for an unknown key", n)
	}
}
