package story

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cast is who was started in a story.
type cast struct {
	home string // the story's folder, $WORK

	mu        sync.Mutex // the curtain may fall at any time
	processes map[string]*process
	figures   map[string]figures // of superdaemons, at the first look
}

type castKey struct{}

type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd.Wait is over
}

func castOf(ts *testscript.TestScript) *cast { return ts.Value(castKey{}).(*cast) }

func (c *cast) enter(name string, p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes[name] = p
}

func (c *cast) member(name string) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.processes[name]
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM ARG...")
	}
	name := args[0]
	log, err := os.OpenFile(ts.MkAbs(name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	ts.Check(err)
	defer log.Close()
	// The shell finds the program in the story's PATH and gives its place to it.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, args[1:]...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = environment(ts)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell with job control does
	ts.Check(cmd.Start())
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	castOf(ts).enter(name, p)
	ts.Check(os.WriteFile(ts.MkAbs(name+".pid"), fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o666))
}

// environment is small and known, so that a worker's can be compared; HERE marks all processes of the story.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range strings.Fields("HERE PATH HOME TMPDIR GORACE GOCOVERDIR " + ts.Getenv("PASS")) {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func end(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 || neg && len(args) == 2 {
		ts.Fatalf("usage: end NAME [STATUS]")
	}
	p := castOf(ts).member(args[0])
	if p == nil {
		ts.Fatalf("nobody was started as %s", args[0])
	}
	select {
	case <-p.ended:
	case <-time.After(patience(ts)):
		ts.Fatalf("%s has not ended; its output:\n%s", args[0], show(ts, args[0]+".log"))
	}
	want := "0"
	if len(args) == 2 {
		want = args[1]
	}
	if got := exitStatus(p.cmd.ProcessState); neg == (got == want) {
		ts.Fatalf("%s ended with %s; its output:\n%s", args[0], got, show(ts, args[0]+".log"))
	}
}

// exitStatus is a number, or SIGKILL and the like.
func exitStatus(state *os.ProcessState) string {
	if ws := state.Sys().(syscall.WaitStatus); ws.Signaled() {
		return unix.SignalName(ws.Signal())
	}
	return strconv.Itoa(state.ExitCode())
}

func signal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal SIGNAL NAME")
	}
	number := unix.SignalNum("SIG" + args[0])
	if number == 0 {
		ts.Fatalf("no signal %s", args[0])
	}
	file := args[1]
	if castOf(ts).member(file) != nil {
		file += ".pid"
	}
	ts.Check(unix.Kill(pidIn(ts, file), number))
}

func dead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dead FILE")
	}
	pid := pidIn(ts, args[0])
	waitFor(ts, func() bool { return unix.Kill(pid, 0) == unix.ESRCH }, func() string {
		return fmt.Sprintf("process %d lives on", pid)
	})
}

func pidIn(ts *testscript.TestScript, file string) int {
	line, _, _ := strings.Cut(ts.ReadFile(file), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		ts.Fatalf("no pid in %s: %q", file, line)
	}
	return pid
}

// sendHome ends whoever is still there and names those who should not have been: after the story they have two
// seconds to go by themselves.
func (c *cast) sendHome() string {
	deadline := time.Now().Add(2 * time.Second)
	for len(c.present()) > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	var names []string
	for pid, name := range c.present() {
		names = append(names, fmt.Sprintf("%d (%s)", pid, name))
	}
	c.kill()
	return strings.Join(names, ", ")
}

// kill ends everybody, as often as it takes: a superdaemon may start another worker meanwhile.
func (c *cast) kill() {
	for range 100 {
		present := c.present()
		if len(present) == 0 {
			return
		}
		for pid := range present {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// present finds the processes of this story, those who left its process group included, by their environment.
func (c *cast) present() map[int]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[int]string{}
	for _, p := range c.processes {
		select {
		case <-p.ended:
		default:
			found[p.cmd.Process.Pid] = p.cmd.Args[4]
		}
	}
	files, _ := filepath.Glob("/proc/[1-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err == nil && strings.Contains("\x00"+string(env), "\x00HERE="+c.home+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			cmdline, _ := os.ReadFile(filepath.Dir(file) + "/cmdline")
			found[pid] = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}
