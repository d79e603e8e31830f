//go:build conformance

package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/start-server/start-server/internal/scripttest"
)

// TestTraces runs each scenario under both and compares the files that they leave, line by line:
// the log, the environments, descriptors and signals of the workers, the status file at several
// moments, exit statuses. Without a mark there must be no difference; scripttest.Header describes
// the marks.
func TestTraces(t *testing.T) {
	files := scenarios(t)
	var originals, outcomes map[string]outcome
	var both sync.WaitGroup
	both.Go(func() { originals = runScripts(t, files, original, scriptTimeout) })
	both.Go(func() { outcomes = runScripts(t, files, tested, scriptTimeout) })
	both.Wait()
	runFailedAgain(t, files, originals)
	for _, file := range files {
		name := name(file)
		h, err := scripttest.ReadHeader(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			compareTraces(t, originals[name], outcomes[name], h)
		})
	}
}

func compareTraces(t *testing.T, original, tested outcome, h scripttest.Header) {
	if !original.passed {
		t.Errorf("the original fails:\n%s", original.log)
	}
	if !tested.passed {
		t.Errorf("start_server fails:\n%s", tested.log)
	}
	difference := cmp.Diff(trace(t, original.dir), trace(t, tested.dir))
	switch {
	case h.Differs != "" && difference == "":
		t.Errorf("no difference, although marked as %q", h.Differs)
	case h == (scripttest.Header{}) && difference != "":
		t.Errorf("-original +start_server:\n%s", difference)
	case difference != "":
		t.Logf("%s\n-original +start_server:\n%s", mark(h), difference)
	}
}

// scenarios writes each section of scenarios.txtar to a file.
func scenarios(t *testing.T) (files []string) {
	archive, err := txtar.ParseFile("testdata/scenarios.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, section := range archive.Files {
		if ok, _ := filepath.Match(*onlyFlag, section.Name); !ok {
			continue
		}
		file := filepath.Join(dir, section.Name+".txtar")
		// testscript accepts no comment as the last line, and needs a final newline.
		text := strings.TrimRight(string(section.Data), "\n") + "\n"
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
