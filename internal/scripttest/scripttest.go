// Package scripttest runs the scripts in testdata/script: what a user does with start_server and
// what the user sees, in the language of testscript
// (https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript) with a few more commands. The
// same scripts test this start_server and the Perl original: the one that comes first in PATH.
//
//	start NAME PROGRAM ARG...       run a program in the background; its output goes to NAME.log, its pid to NAME.pid
//	signal SIGNAL NAME|FILE         send HUP, TERM, ... to the program NAME, or to the process whose pid is in FILE
//	waitexit NAME [STATUS]          wait until the program has exited with this status (0) or signal (SIGKILL);
//	                                ! waitexit NAME: with any other
//	waitexit FILE                   wait until the process whose pid is in FILE is gone
//	waitmatch FILE REGEXP [COUNT]   wait until the file matches COUNT times (1); ^ and $ match at line ends
//	waitgone FILE                   wait until the file does not exist
//	fetch ADDRESS PATH              request a page, which becomes stdout; ! fetch: the request fails. ADDRESS is a unix
//	                                socket, or a file with one line: "tcp HOST:PORT", "udp HOST:PORT" or "unix PATH";
//	                                over UDP the path is the packet, in which \x01 stands for a byte
//	dial ADDRESS                    connect; ! dial: the connection is refused
//	write FILE LINE...              create or replace a file, atomically, with these lines
//	healthy NAME|FILE               check the superdaemon, whose files are app.sock and status: one worker, which answers;
//	                                a HUP works; no zombies; no more descriptors and memory than at the first check
//
// The condition [root] holds for the superuser, [long] with the flag -long, [namespaces] if mount
// and pid namespaces can be made, [fuse] if the file system of testdata/hangfs, a process, can be
// mounted. A command that waits fails after $TIMEOUT (20s) and shows what it found instead.
// Programs get PATH, HOME, WORK, TMPDIR and the variables that $PASSENV lists. A script that leaves
// a process behind fails.
//
// ReadHeader describes the marks in the comment that a script begins with.
package scripttest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

var long = flag.Bool("long", false, "run the long versions of the scripts that have one")

// coverVariable names the directory in which programs record the statements that they executed. It
// is not called GOCOVERDIR, because go test changes that.
const coverVariable = "COVERDIR"

// limit is how long a script may take, without -long. After that its processes are killed, and
// commands that wait for them fail.
const limit = time.Minute

// Params configures testscript to run the scripts in dir, with the programs in binDir before all
// others in PATH.
func Params(dir, binDir string) testscript.Params {
	for fd := 3; fd < 256; fd++ {
		unix.CloseOnExec(fd) // the programs must not inherit what the caller has left open
	}
	return testscript.Params{
		Dir:                dir,
		RequireUniqueNames: true,
		Setup:              func(env *testscript.Env) error { return setup(env, binDir) },
		Condition:          condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":     start,
			"signal":    signal,
			"waitexit":  waitExit,
			"waitmatch": waitMatch,
			"waitgone":  waitGone,
			"fetch":     fetch,
			"dial":      dial,
			"write":     write,
			"healthy":   healthy,
		},
	}
}

func setup(env *testscript.Env, binDir string) error {
	env.Setenv("PATH", binDir+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("TIMEOUT", "20s")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process takes a second to exit
	env.Setenv("GOCOVERDIR", os.Getenv(coverVariable))
	ps := newProcesses(env.WorkDir)
	env.Values[processesKey{}] = ps
	deadline := time.AfterFunc(limit, ps.kill)
	if *long {
		deadline.Stop()
	}
	env.Defer(func() {
		deadline.Stop()
		if left := ps.killRemaining(); left != "" {
			env.T().Fatal("left behind: " + left)
		}
	})
	return nil
}

func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "long":
		return *long, nil
	case "namespaces":
		return exec.Command("unshare", "--mount", "--pid", "--fork", "true").Run() == nil, nil
	case "fuse":
		_, err := os.Stat("/dev/fuse")
		return err == nil && os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// Build compiles packages of this module into binDir: with the race detector if the test has it,
// and with coverage counters if coverVariable is set.
func Build(t testing.TB, binDir string, packages ...string) {
	t.Helper()
	args := []string{"build", "-o", binDir + string(filepath.Separator)}
	if raceEnabled() {
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

func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}
