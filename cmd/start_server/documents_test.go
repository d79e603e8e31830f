package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadme checks that the README is short and that the options in its table exist.
func TestReadme(t *testing.T) {
	readme := read(t, "../../README.md")
	if lines := strings.Count(readme, "\n"); lines > 200 {
		t.Errorf("the README has %d lines, want 200 at most", lines)
	}
	for _, name := range matches(regexp.MustCompile("(?m)^\\| `--([a-z-]+)"), readme) {
		if !slices.Contains(optionNames(), name) {
			t.Errorf("the README has --%s, which does not exist", name)
		}
	}
}

// TestGoVersions checks that the documents name the versions of the Makefile and go.mod.
func TestGoVersions(t *testing.T) {
	version := regexp.MustCompile(`(?m)^(?:go |GOVERSIONS = .* go)(1\.\d+)`)
	oldest, newest := matches(version, read(t, "../../go.mod"))[0], matches(version, read(t, "../../Makefile"))[0]
	for document, text := range map[string]string{
		"../../README.md":                     "tested under Go " + oldest + " and " + newest,
		"../../.github/CHANGELOG.md":          "tested under Go " + oldest + " and " + newest,
		"../../listener/graceful/graceful.go": "tested with Go " + oldest + " to " + newest,
		"../../internal/swaploss/README.md":   "Go " + newest,
	} {
		if !strings.Contains(read(t, document), text) {
			t.Errorf("%s does not have %q", document, text)
		}
	}
}

// TestReadmeQuotes checks that the documents show the units that the tests run under a real
// systemd.
func TestReadmeQuotes(t *testing.T) {
	for _, quote := range []struct{ document, unit string }{
		{"../../README.md", "app.service"},
		{"README.md", "app.service"},
		{"README.md", "notify.service"},
		{"README.md", "app.socket"},
	} {
		unit := read(t, "../../internal/conformance/systemd/testdata/"+quote.unit)
		if !strings.Contains(read(t, quote.document), "```ini\n"+unit+"```") {
			t.Errorf("%s does not contain %s verbatim", quote.document, quote.unit)
		}
	}
}

// TestReadmeDeploy checks that the guide shows the deploy script that the test script runs.
func TestReadmeDeploy(t *testing.T) {
	_, script, ok := strings.Cut(read(t, "../../testdata/script/deploy.txtar"), "\n-- deploy.sh --\n")
	if guide := read(t, "README.md"); !ok || !strings.Contains(guide, "```sh\n"+script+"```") {
		t.Errorf("the guide does not contain verbatim:\n%s", script)
	}
}

// TestReadmeFigures checks that the README's figures are those of the documents that it takes them
// from.
func TestReadmeFigures(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "../../README.md"), "\n## Figures\n")
	if !ok {
		t.Fatal("the README has no figures")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	sources := read(t, "../../internal/bench/README.md") + read(t, "../../internal/conformance/README.md") +
		read(t, "../../internal/soak/README.md")
	nothingLost := regexp.MustCompile(`(?m)^- \*\*Nothing lost\*\*.*$`).FindString(read(t, "../../README.md"))
	figures := matches(regexp.MustCompile(`([0-9]+[.,][0-9]+)`), strings.ReplaceAll(table, "Perl 0.35", "Perl")+nothingLost)
	if len(figures) < 6 {
		t.Errorf("found %d figures in the README", len(figures))
	}
	for _, figure := range figures {
		if !strings.Contains(sources, figure) {
			t.Errorf("the README has the figure %s, which was not measured", figure)
		}
	}
}

// TestReadmeDifferences checks that the table of differences has a row for each difference that a
// script marks.
func TestReadmeDifferences(t *testing.T) {
	const table = "../../internal/conformance/README.md"
	_, rows, ok := strings.Cut(read(t, table), "\n## Differences from the Perl original\n")
	if !ok {
		t.Fatalf("%s has no table of differences", table)
	}
	rows = strings.ReplaceAll(rows, "`", "")
	scripts, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	mark := regexp.MustCompile(`(?m)^# (?:differs|may differ): (.+)$`)
	for _, script := range append(scripts, "../../internal/conformance/testdata/scenarios.txtar") {
		for _, row := range matches(mark, strings.ReplaceAll(read(t, script), "`", "")) {
			if !strings.Contains(rows, "\n| "+row) {
				t.Errorf("%s differs by %q, which is not a row of %s", filepath.Base(script), row, table)
			}
		}
	}
}

// TestReadmeLinks checks the links between files, and to their sections.
func TestReadmeLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, document := range documents(t) {
		for _, target := range matches(link, read(t, document)) {
			if strings.Contains(target, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(target, "#")
			path := document
			if file != "" {
				path = filepath.Join(filepath.Dir(document), file)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %v", document, err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s: %s has no section #%s", document, path, anchor)
			}
		}
	}
}

// TestSecurityProofs checks that the scripts and tests that SECURITY.md names exist.
func TestSecurityProofs(t *testing.T) {
	text := read(t, "../../.github/SECURITY.md")
	scripts := matches(regexp.MustCompile("`([a-z]+(?:_[a-z]+)+)`"), text)
	for _, name := range scripts {
		if name == "start_server" {
			continue
		}
		if _, err := os.Stat("../../testdata/script/" + name + ".txtar"); err != nil {
			t.Error(err)
		}
	}
	tests := matches(regexp.MustCompile("`(Test[A-Za-z]+)`"), text)
	for _, name := range tests {
		if !slices.ContainsFunc(testFiles(t), func(file string) bool { return strings.Contains(read(t, file), "func "+name+"(") }) {
			t.Errorf("SECURITY.md names %s, which does not exist", name)
		}
	}
	if len(scripts) < 5 || len(tests) < 3 {
		t.Errorf("found the scripts %q and the tests %q", scripts, tests)
	}
}

// testFiles returns the test files of the packages that the superdaemon consists of.
func testFiles(t *testing.T) []string {
	inner, err1 := filepath.Glob("../../internal/*/*_test.go")
	outer, err2 := filepath.Glob("../../starter/*_test.go")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return append(inner, outer...)
}

// TestReadmeMap checks that the files in CONTRIBUTING's map of the code exist.
func TestReadmeMap(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(read(t, "../../.github/CONTRIBUTING.md"), -1)
	files := 0
	for _, row := range rows {
		dir := ""
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			if !strings.HasSuffix(m[1], ".go") {
				continue
			}
			files++
			if strings.Contains(m[1], "/") {
				dir = filepath.Dir(m[1])
			}
			if _, err := os.Stat(filepath.Join("../..", dir, filepath.Base(m[1]))); err != nil {
				t.Errorf("the map in CONTRIBUTING.md: %v", err)
			}
		}
	}
	if files < 10 {
		t.Errorf("found %d files in the map in CONTRIBUTING.md", files)
	}
}

// documents returns the Markdown files of the project.
func documents(t *testing.T) (files []string) {
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if entry.IsDir() && slices.Contains([]string{".git", "bin", "coverage", "dist"}, path) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			files = append(files, filepath.Join("../..", path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// anchors returns the anchors that GitHub makes of the titles in a Markdown text.
func anchors(text string) (names []string) {
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return names
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
