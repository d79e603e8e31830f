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

	"github.com/start-server/start-server/internal/scripttest"
)

const (
	scriptTimeout  = 20 * time.Second
	failureTimeout = 6 * time.Second // for scripts that are expected to fail
)

// TestScripts runs each script under both and prints which passed. The tested start_server must
// pass all, and the original those without a mark; scripttest.Header describes the marks.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../../testdata/script/" + *onlyFlag + ".txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts: ", err)
	}
	headers := map[string]scripttest.Header{}
	var same, different []string
	for _, file := range files {
		h, err := scripttest.ReadHeader(file)
		if err != nil {
			t.Fatal(err)
		}
		headers[name(file)] = h
		if h == (scripttest.Header{}) {
			same = append(same, file)
		} else {
			different = append(different, file)
		}
	}
	var originals, failures, outcomes map[string]outcome
	var both sync.WaitGroup
	both.Go(func() { originals = runScripts(t, same, original, scriptTimeout) })
	both.Go(func() { failures = runScripts(t, different, original, failureTimeout) })
	both.Go(func() { outcomes = runScripts(t, files, tested, scriptTimeout) })
	both.Wait()
	runFailedAgain(t, same, originals)
	maps.Copy(originals, failures)
	for _, file := range files {
		n := name(file)
		checkOutcomes(t, n, headers[n], originals[n], outcomes[n])
	}
	publish(t, outcomeTable(files, headers, originals, outcomes))
}

func name(file string) string { return strings.TrimSuffix(filepath.Base(file), ".txtar") }

func checkOutcomes(t *testing.T, name string, h scripttest.Header, original, tested outcome) {
	if !tested.passed {
		t.Errorf("%s: start_server fails:\n%s", name, tested.log)
	}
	switch {
	case h.Differs != "" && original.passed:
		t.Errorf("%s: the original passes, so there is no difference %q", name, h.Differs)
	case h.Beyond && original.passed:
		t.Errorf("%s: the original passes, so this is not beyond it", name)
	case h == (scripttest.Header{}) && !original.passed:
		t.Errorf("%s: the original fails:\n%s", name, original.log)
	}
}

func outcomeTable(files []string, headers map[string]scripttest.Header, originals, outcomes map[string]outcome) string {
	var b strings.Builder
	row := func(cells ...any) { fmt.Fprintf(&b, "%-32v %-9v %-13v %v\n", cells...) }
	row("script", "original", "start_server", "")
	slices.Sort(files)
	for _, file := range files {
		n := name(file)
		row(n, originals[n], outcomes[n], mark(headers[n]))
	}
	return b.String()
}

func mark(h scripttest.Header) string {
	switch {
	case h.Differs != "":
		return "differs: " + h.Differs
	case h.MayDiffer != "":
		return "may differ: " + h.MayDiffer
	case h.Beyond:
		return "beyond"
	}
	return ""
}
