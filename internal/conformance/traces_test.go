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

// TestTraces runs each scenario under both at once and compares what is left behind, line by line: the log, the
// workers' environments, descriptors and signals in order, the status file at several moments, exit statuses. Without a
// mark there must be no difference; what a mark asks for is in scripttest.Header.
func TestTraces(t *testing.T) {
	files := scenarios(t)
	var originals, oursOutcomes map[string]outcome
	var both sync.WaitGroup
	both.Go(func() { originals = runScripts(t, files, original, scriptTimeout) })
	both.Go(func() { oursOutcomes = runScripts(t, files, ours, scriptTimeout) })
	both.Wait()
	runFailedAgain(t, files, originals)
	for _, file := range files {
		name := name(file)
		h, err := scripttest.ReadHeader(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			compareTraces(t, originals[name], oursOutcomes[name], h)
		})
	}
}

func compareTraces(t *testing.T, original, ours outcome, h scripttest.Header) {
	if !original.passed {
		t.Errorf("the original fails:\n%s", original.log)
	}
	if !ours.passed {
		t.Errorf("ours fails:\n%s", ours.log)
	}
	difference := cmp.Diff(trace(t, original.dir), trace(t, ours.dir))
	switch {
	case h.Differs != "" && difference == "":
		t.Errorf("no difference, not even %q", h.Differs)
	case h == (scripttest.Header{}) && difference != "":
		t.Errorf("-original +ours:\n%s", difference)
	case difference != "":
		t.Logf("%s\n-original +ours:\n%s", mark(h), difference)
	}
}

// scenarios makes a file of each section of scenarios.txtar.
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
		// testscript takes no comment as the very last line, and needs a final newline.
		text := strings.TrimRight(string(section.Data), "\n") + "\n"
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
