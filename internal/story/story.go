// Package story runs the stories of testdata/script: what a user does with start_server and what he sees, written in
// the language of testscript with a few words more. The same stories run against our start_server and against the
// Perl original; whichever comes first in PATH is the one that is judged.
//
//	start NAME PROGRAM ARG...    run it in the background; its output goes to NAME.log, its pid to NAME.pid
//	end NAME [STATUS]            wait until it has ended, with this exit status (0); ! end NAME: with any other
//	signal SIGNAL NAME           send HUP, TERM, ... to NAME, or to the pid that stands in the file NAME
//	await FILE REGEXP [COUNT]    wait until the file matches so often (1); ^ and $ are ends of lines
//	gone FILE                    wait until the file is there no more
//	dead FILE                    wait until the process is there no more whose pid stands in the file
//	fetch ADDRESS PATH           ask for a page; the answer is what stdout looks at. ADDRESS is a unix socket or a
//	                             file that holds one line "tcp HOST:PORT", "udp HOST:PORT" or "unix PATH"
//	write FILE LINE...           make a file of these lines, as a whole
//	dial ADDRESS                 succeeds where somebody accepts connections (! dial: nobody does)
//	sound NAME                   the superdaemon NAME, whose files are app.sock and status, is in good health; a HUP is
//	                             part of the examination
//
// The condition [root] holds where the story is played by root, [long] with the flag -long, [namespaces] where he
// may mount and make pid namespaces. Waiting fails after $PATIENCE (20s) and shows what was there instead. A story that leaves a process behind fails.
//
// Words in the comment lines that a story begins with:
//
//	# differs: ROW    the original must fail this one; ROW is how a row of "Differences from the Perl original" begins
//	# beyond          no other start_server has it
package story

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

var long = flag.Bool("long", false, "play the long versions of the stories that have one")

// coverVariable names the folder where programs write down which statements they executed. It is not called GOCOVERDIR,
// because go test changes that.
const coverVariable = "COVERDIR"

// limit is how long a story may take, without -long. Then all its processes are killed, and what waits for them fails.
const limit = time.Minute

// Params says how to run the stories in the folder dir, with the programs in binDir put before all others.
func Params(dir, binDir string) testscript.Params {
	for fd := 3; fd < 256; fd++ {
		unix.CloseOnExec(fd) // what the caller's shell left open is no part of any story
	}
	return testscript.Params{
		Dir:                dir,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binDir+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("PATIENCE", "20s")
			env.Setenv("HERE", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second at the end of each process
			env.Setenv("GOCOVERDIR", os.Getenv(coverVariable))
			cast := &cast{home: env.WorkDir, processes: map[string]*process{}, figures: map[string]figures{}}
			env.Values[castKey{}] = cast
			curtain := time.AfterFunc(limit, func() { cast.kill() })
			if *long {
				curtain.Stop()
			}
			env.Defer(func() {
				curtain.Stop()
				if left := cast.sendHome(); left != "" {
					env.T().Fatal("left behind: " + left)
				}
			})
			return nil
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Geteuid() == 0, nil
			case "long":
				return *long, nil
			case "namespaces":
				return exec.Command("unshare", "--mount", "--pid", "--fork", "true").Run() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":  start,
			"end":    end,
			"signal": signal,
			"await":  await,
			"gone":   gone,
			"dead":   dead,
			"fetch":  fetch,
			"write":  write,
			"dial":   dial,
			"sound":  sound,
		},
	}
}

// Build compiles packages of this module into the folder binDir, with the race detector where the test has it, and to
// count the statements that are executed where that is asked for.
func Build(t testing.TB, binDir string, packages ...string) {
	t.Helper()
	args := []string{"build", "-o", binDir + string(filepath.Separator)}
	if raced() {
		args = append(args, "-race")
	}
	if os.Getenv(coverVariable) != "" {
		args = append(args, "-cover", "-covermode=atomic", "-coverpkg=github.com/start-server/start-server/...")
	}
	cmd := exec.Command("go", append(args, packages...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// Marks are the words in the comment that a story begins with.
type Marks struct {
	Differs string // the row of the README's table that the original must fail, or empty
	Beyond  bool
}

var differs = regexp.MustCompile(`(?m)^# differs: (.+)$`)

// ReadMarks reads the comment of the story in file.
func ReadMarks(file string) (Marks, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Marks{}, fmt.Errorf("read the story: %w", err)
	}
	header, _, _ := strings.Cut(string(text), "\n\n")
	var m Marks
	if row := differs.FindStringSubmatch(header); row != nil {
		m.Differs = row[1]
	}
	m.Beyond = strings.Contains(header, "# beyond\n") || strings.HasSuffix(header, "# beyond")
	return m, nil
}
