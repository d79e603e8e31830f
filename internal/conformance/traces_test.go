//go:build conformance

package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/start-server/start-server/internal/story"
)

// TestTraces plays each scenario under both at once and compares what is left behind, line by line: the log, the
// workers' environments, descriptors and signals in order, the status file at several moments, exit statuses. One that
// is marked as a difference must differ.
func TestTraces(t *testing.T) {
	files := scenarios(t)
	var theirs, mine map[string]outcome
	var both sync.WaitGroup
	both.Go(func() { theirs = perform(t, files, original, 20*time.Second) })
	both.Go(func() { mine = perform(t, files, ours, 20*time.Second) })
	both.Wait()
	performAgain(t, files, theirs)
	for _, file := range files {
		name := name(file)
		marks, err := story.ReadMarks(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			compare(t, theirs[name], mine[name], marks.Differs)
		})
	}
}

func compare(t *testing.T, theirs, mine outcome, differs string) {
	if !theirs.passed {
		t.Errorf("the original cannot play it:\n%s", theirs.log)
	}
	if !mine.passed {
		t.Errorf("ours cannot play it:\n%s", mine.log)
	}
	difference := cmp.Diff(trace(t, theirs.dir), trace(t, mine.dir))
	switch {
	case differs == "" && difference != "":
		t.Errorf("-original +ours:\n%s", difference)
	case differs != "" && difference == "":
		t.Errorf("no difference, not even %q", differs)
	case differs != "":
		t.Logf("differs: %s\n-original +ours:\n%s", differs, difference)
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
