package scripttest

import (
	"fmt"
	"os"
	"strings"
)

// Header holds the mark about the original in the comment at the beginning of a script. Without a
// mark the script passes under both, or the traces of both are equal. At most one of the fields is
// set.
type Header struct {
	// Differs is from "# differs: ROW": the original must fail the script, or leave another trace.
	// ROW is the beginning of a row of the table "Differences from the Perl original" in
	// internal/conformance/README.md.
	Differs string
	// MayDiffer is from "# may differ: ROW": like Differs, but a race in the original decides
	// whether it differs.
	MayDiffer string
	// Beyond is from "# beyond": the original lacks what the script uses.
	Beyond bool
}

// ReadHeader reads the header of the script in file: its comment, up to the first empty line.
func ReadHeader(file string) (Header, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Header{}, fmt.Errorf("read the script: %w", err)
	}
	comment, _, _ := strings.Cut(string(text), "\n\n")
	h, marks := Header{}, 0
	for line := range strings.Lines(comment) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			continue
		}
		switch mark, row, _ := strings.Cut(text, ": "); mark {
		case "differs":
			h.Differs = row
		case "may differ":
			h.MayDiffer = row
		case "beyond":
			h.Beyond = true
		default:
			continue
		}
		marks++
	}
	if marks > 1 {
		return Header{}, fmt.Errorf("%s: %d marks, want one at most", file, marks)
	}
	return h, nil
}
