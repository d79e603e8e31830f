//go:build conformance

package conformance

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/start-server/start-server/internal/story"
)

// outcome is what became of one story under one start_server.
type outcome struct {
	passed bool
	log    string // what testscript has to say
	dir    string // what the story left behind
}

func (o outcome) String() string {
	if o.passed {
		return "pass"
	}
	return "fail"
}

// slots bounds how many stories run at once: they mostly wait.
var slots = make(chan struct{}, 10)

// perform runs the stories in files with the programs in binDir, all at once, and waits for nothing longer than
// patience. A story that fails is an outcome here and not a failed test: the caller judges.
func perform(t *testing.T, files []string, binDir string, patience time.Duration) map[string]outcome {
	if len(files) == 0 { // testscript would look for a folder of them
		return map[string]outcome{}
	}
	root, err := os.MkdirTemp("/tmp", "s") // short: a unix socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	params := story.Params("", binDir)
	params.Files = files
	params.WorkdirRoot = root
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		defer env.Setenv("PATIENCE", patience.String())
		return setup(env)
	}
	s := &stage{root: root, outcomes: map[string]outcome{}}
	testscript.RunT(s, params)
	s.running.Wait()
	return s.outcomes
}

// performAgain plays those once more that failed under the original, which now and then overlooks a HUP: one that arrives
// when it has just looked for signals and is about to wait for a child's end.
func performAgain(t *testing.T, files []string, first map[string]outcome) {
	var failed []string
	for _, file := range files {
		if !first[name(file)].passed {
			failed = append(failed, file)
		}
	}
	if len(failed) == 0 {
		return
	}
	maps.Copy(first, perform(t, failed, original, 20*time.Second))
}

// stage is the testscript.T of a whole run.
type stage struct {
	actor
	root     string
	running  sync.WaitGroup
	mu       sync.Mutex
	outcomes map[string]outcome
}

func (s *stage) Run(name string, play func(testscript.T)) {
	s.running.Go(func() {
		slots <- struct{}{}
		defer func() { <-slots }()
		a := &actor{}
		done := make(chan struct{})
		go func() { // FailNow ends the goroutine
			defer close(done)
			play(a)
		}()
		<-done
		s.mu.Lock()
		defer s.mu.Unlock()
		s.outcomes[name] = outcome{passed: !a.failed, log: a.log.String(), dir: filepath.Join(s.root, "script-"+name)}
	})
}

// actor is the testscript.T of one story.
type actor struct {
	log    strings.Builder
	failed bool
}

func (a *actor) Log(args ...any)   { fmt.Fprintln(&a.log, args...) }
func (a *actor) Fatal(args ...any) { a.Log(args...); a.FailNow() }
func (a *actor) Skip(args ...any)  { a.Fatal(append([]any{"skipped:"}, args...)...) } // nothing is skipped here
func (a *actor) FailNow()          { a.failed = true; runtime.Goexit() }
func (a *actor) Parallel()         {}
func (a *actor) Verbose() bool     { return false }

func (a *actor) Run(string, func(testscript.T)) { panic("a story has no stories in it") }
