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

	"github.com/start-server/start-server/internal/scripttest"
)

// outcome is the result of one script under one start_server.
type outcome struct {
	passed bool
	log    string // the output of testscript
	dir    string // the script's directory, with the files that it left
}

func (o outcome) String() string {
	if o.passed {
		return "pass"
	}
	return "fail"
}

// slots limits how many scripts run at once. There may be many: they mostly wait.
var slots = make(chan struct{}, 10)

// runScripts runs the scripts in files with the programs in binDir, concurrently. Their commands
// wait no longer than timeout. A script that fails does not fail the test: the caller decides.
func runScripts(t *testing.T, files []string, binDir string, timeout time.Duration) map[string]outcome {
	if len(files) == 0 { // testscript would look for a directory of scripts
		return map[string]outcome{}
	}
	root, err := os.MkdirTemp("/tmp", "s") // short: the path of a unix socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	params := scripttest.Params("", binDir)
	params.Files = files
	params.WorkdirRoot = root
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		defer env.Setenv("TIMEOUT", timeout.String())
		return setup(env)
	}
	r := &runner{root: root, outcomes: map[string]outcome{}}
	testscript.RunT(r, params)
	r.running.Wait()
	return r.outcomes
}

// runFailedAgain runs the scripts again that failed under the original, which sometimes misses a
// HUP: one that arrives after it has checked for signals and before it waits for the exit of a
// child.
func runFailedAgain(t *testing.T, files []string, outcomes map[string]outcome) {
	var failed []string
	for _, file := range files {
		if !outcomes[name(file)].passed {
			failed = append(failed, file)
		}
	}
	maps.Copy(outcomes, runScripts(t, failed, original, scriptTimeout))
}

// runner is the testscript.T of a call of runScripts. It runs the scripts.
type runner struct {
	scriptT
	root     string
	running  sync.WaitGroup
	mu       sync.Mutex
	outcomes map[string]outcome
}

func (r *runner) Run(name string, script func(testscript.T)) {
	r.running.Go(func() {
		slots <- struct{}{}
		defer func() { <-slots }()
		t := &scriptT{}
		done := make(chan struct{})
		go func() { // FailNow ends the goroutine
			defer close(done)
			script(t)
		}()
		<-done
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outcomes[name] = outcome{passed: !t.failed, log: t.log.String(), dir: filepath.Join(r.root, "script-"+name)}
	})
}

// scriptT is the testscript.T of one script.
type scriptT struct {
	log    strings.Builder
	failed bool
}

func (t *scriptT) Log(args ...any)   { fmt.Fprintln(&t.log, args...) }
func (t *scriptT) Fatal(args ...any) { t.Log(args...); t.FailNow() }
func (t *scriptT) FailNow()          { t.failed = true; runtime.Goexit() }
func (t *scriptT) Parallel()         {}
func (t *scriptT) Verbose() bool     { return false }

// Skip fails: checkNeeds has checked for everything that a script needs.
func (t *scriptT) Skip(args ...any) { t.Fatal(append([]any{"skipped:"}, args...)...) }

func (t *scriptT) Run(string, func(testscript.T)) { panic("a script does not run scripts") }
