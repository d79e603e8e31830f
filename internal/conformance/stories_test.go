//go:build conformance

package conformance

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/story"
)

// TestStories runs each story under both and prints who passed. A story without a mark must pass under both; one that
// is marked as a difference must fail under the original; and ours must pass them all.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("../../testdata/script/" + *onlyFlag + ".txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories: ", err)
	}
	marks := map[string]story.Marks{}
	var same, different []string
	for _, file := range files {
		m, err := story.ReadMarks(file)
		if err != nil {
			t.Fatal(err)
		}
		marks[name(file)] = m
		if m.Differs == "" && !m.Beyond {
			same = append(same, file)
		} else {
			different = append(different, file)
		}
	}
	var theirs, mine, theirFailures map[string]outcome
	var both sync.WaitGroup
	both.Go(func() { theirs = perform(t, same, original, 20*time.Second) })
	both.Go(func() { theirFailures = perform(t, different, original, 6*time.Second) })
	both.Go(func() { mine = perform(t, files, ours, 20*time.Second) })
	both.Wait()
	performAgain(t, same, theirs)
	maps.Copy(theirs, theirFailures)
	for _, file := range files {
		judge(t, name(file), marks[name(file)], theirs[name(file)], mine[name(file)])
	}
	publish(t, table(files, marks, theirs, mine))
}

func name(file string) string { return strings.TrimSuffix(filepath.Base(file), ".txtar") }

func judge(t *testing.T, name string, m story.Marks, theirs, mine outcome) {
	if !mine.passed {
		t.Errorf("%s: ours fails:\n%s", name, mine.log)
	}
	switch {
	case m.Differs != "" && theirs.passed:
		t.Errorf("%s: the original passes, so there is no difference %q", name, m.Differs)
	case m.Beyond && theirs.passed:
		t.Errorf("%s: the original passes, so this is not beyond it", name)
	case m.Differs == "" && !m.Beyond && !theirs.passed:
		t.Errorf("%s: the original fails:\n%s", name, theirs.log)
	}
}

func table(files []string, marks map[string]story.Marks, theirs, mine map[string]outcome) string {
	var b strings.Builder
	row := func(cells ...any) { fmt.Fprintf(&b, "%-32v %-9v %-5v %v\n", cells...) }
	row("story", "original", "ours", "")
	slices.Sort(files)
	for _, file := range files {
		m, why := marks[name(file)], ""
		switch {
		case m.Differs != "":
			why = "differs: " + m.Differs
		case m.Beyond:
			why = "beyond"
		}
		row(name(file), theirs[name(file)], mine[name(file)], why)
	}
	return b.String()
}
