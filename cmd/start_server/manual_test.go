package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestManual sees that every option stands in --help, in the man page and in the README's table, and nothing else does.
func TestManual(t *testing.T) {
	var want []string
	for _, o := range getoptOptions() {
		want = append(want, o.Name)
	}
	slices.Sort(want)
	var help bytes.Buffer
	if status := run([]string{"--help"}, &help, os.Stderr); status != 0 {
		t.Fatalf("--help ends with %d", status)
	}
	for _, place := range []struct {
		name, text string
		option     *regexp.Regexp
	}{
		{"--help", help.String(), regexp.MustCompile(`(?m)^ *--([a-z-]+)`)},
		{"the man page", read(t, "start_server.1"), regexp.MustCompile(`(?m)^\.It Fl Fl ([a-z-]+)`)},
		{"the README's table", section(t, "Options"), regexp.MustCompile("(?m)^\\| `--([a-z-]+)")},
	} {
		var got []string
		for _, m := range place.option.FindAllStringSubmatch(place.text, -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
			t.Errorf("options in %s (-want +got):\n%s", place.name, diff)
		}
	}
}

// TestManualIsClean has the page read by whichever of the two formatters is there.
func TestManualIsClean(t *testing.T) {
	commands := [][]string{
		{"man", "--warnings", "-l", "-Tutf8", "-Z", "start_server.1"},
		{"mandoc", "-T", "lint", "-W", "warning", "start_server.1"},
	}
	for _, args := range commands {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("%v", err)
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=100")
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		if args[0] == "mandoc" {
			cmd.Stdout = &complaints
		}
		if err := cmd.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v\n%s", cmd, err, &complaints)
		}
	}
}

// TestReadmeQuotes sees that the README has the units that the tests run under a real systemd, and a row for all in which
// the original differs.
func TestReadmeQuotes(t *testing.T) {
	readme := section(t, "systemd")
	for _, unit := range []string{"app.service", "app.socket"} {
		if !strings.Contains(readme, "```ini\n"+read(t, "../../internal/conformance/systemd/testdata/"+unit)+"```") {
			t.Errorf("the README has not %s to the letter", unit)
		}
	}
	rows := strings.ReplaceAll(section(t, "Differences from the Perl original"), "`", "")
	scripts, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range append(scripts, "../../internal/conformance/testdata/scenarios.txtar") {
		for _, m := range regexp.MustCompile(`(?m)^# (?:differs|may differ): (.+)$`).FindAllStringSubmatch(read(t, script), -1) {
			if !strings.Contains(rows, "\n| "+m[1]) {
				t.Errorf("%s differs by %q, which is no row of the README", filepath.Base(script), m[1])
			}
		}
	}
}

// section is what stands in the README below a title.
func section(t *testing.T, title string) string {
	_, text, ok := strings.Cut(read(t, "../../README.md"), "# "+title+"\n")
	if !ok {
		t.Fatalf("the README has no section %q", title)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

func read(t *testing.T, file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
