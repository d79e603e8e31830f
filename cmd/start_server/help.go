//go:build !windows

package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/jessevdk/go-flags"
)

const (
	helpWidth  = 80 // columns, however wide the terminal is
	helpIndent = 29 // where descriptions begin
)

// writeHelp prints the options in their sections.
func writeHelp(stdout io.Writer) error {
	parser, err := newParser(&options{})
	if err != nil {
		return err
	}
	w := bufio.NewWriter(stdout)
	fmt.Fprintln(w, "Usage: start_server [options] -- program [argument ...]")
	for _, all := range parser.Groups() {
		for _, section := range all.Groups() {
			fmt.Fprintf(w, "\n%s:\n", section.ShortDescription)
			for _, o := range section.Options() {
				writeOption(w, o)
			}
		}
	}
	return w.Flush()
}

// writeOption prints an option, and its description beside it, or below it if it is too long.
func writeOption(w io.Writer, o *flags.Option) {
	label := "  --" + o.LongName
	if o.ValueName != "" {
		label += "=" + o.ValueName
	}
	lines := wrap(o.Description, helpWidth-helpIndent)
	if len(label)+2 > helpIndent {
		fmt.Fprintln(w, label)
		label = ""
	}
	for _, line := range lines {
		fmt.Fprintf(w, "%-*s%s\n", helpIndent, label, line)
		label = ""
	}
}

// wrap breaks a text into lines of at most width bytes.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
