package scripttest

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

// processes holds the programs that a script has started.
type processes struct {
	workDir string // the script's directory, $WORK

	mu     sync.Mutex // the deadline may expire at any time
	byName map[string]*process

	firstUsage map[string]usage // of superdaemons, at the first check by healthy
}

type processesKey struct{}

type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd.Wait has returned
}

func newProcesses(workDir string) *processes {
	return &processes{workDir: workDir, byName: map[string]*process{}, firstUsage: map[string]usage{}}
}

func processesOf(ts *testscript.TestScript) *processes { return ts.Value(processesKey{}).(*processes) }

func (ps *processes) add(name string, p *process) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.byName[name] = p
}

// get returns nil if no program was started under this name.
func (ps *processes) get(name string) *process {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.byName[name]
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM ARG...")
	}
	name := args[0]
	log, err := os.OpenFile(ts.MkAbs(name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	ts.Check(err)
	defer log.Close()
	// The shell finds the program in the script's PATH and is replaced by it.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, args[1:]...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = environment(ts)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell with job control does
	ts.Check(cmd.Start())
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // waitExit checks the state
		close(p.exited)
	}()
	processesOf(ts).add(name, p)
	ts.Check(os.WriteFile(ts.MkAbs(name+".pid"), fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o666))
}

// environment returns a small, fixed environment, so that those of workers can be compared. WORK
// identifies the processes of the script.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range strings.Fields("WORK PATH HOME TMPDIR GORACE GOCOVERDIR " + ts.Getenv("PASSENV")) {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func waitExit(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 || neg && len(args) == 2 {
		ts.Fatalf("usage: waitexit NAME [STATUS], waitexit FILE")
	}
	name, want := args[0], "0"
	if len(args) == 2 {
		want = args[1]
	}
	p := processesOf(ts).get(name)
	if p == nil {
		if neg || len(args) == 2 {
			ts.Fatalf("no program was started as %s: its exit status is not known", name)
		}
		waitGonePID(ts, pidIn(ts, name))
		return
	}
	select {
	case <-p.exited:
	case <-time.After(timeout(ts)):
		ts.Fatalf("%s has not exited; its output:\n%s", name, contents(ts, name+".log"))
	}
	if got := exitStatus(p.cmd.ProcessState); neg == (got == want) {
		ts.Fatalf("%s: exit status %s; its output:\n%s", name, got, contents(ts, name+".log"))
	}
}

// exitStatus returns the exit status, or the name of the signal that ended the process, such as
// SIGKILL.
func exitStatus(state *os.ProcessState) string {
	if ws := state.Sys().(syscall.WaitStatus); ws.Signaled() {
		return unix.SignalName(ws.Signal())
	}
	return strconv.Itoa(state.ExitCode())
}

func waitGonePID(ts *testscript.TestScript, pid int) {
	waitFor(ts, func() bool { return unix.Kill(pid, 0) == unix.ESRCH }, func() string {
		return fmt.Sprintf("process %d is still running", pid)
	})
}

func signal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal SIGNAL NAME|FILE")
	}
	number := unix.SignalNum("SIG" + args[0])
	if number == 0 {
		ts.Fatalf("unknown signal %s", args[0])
	}
	ts.Check(unix.Kill(pidOf(ts, args[1]), number))
}

// pidOf returns the pid of a program that was started under this name, else the one in the file of
// this name.
func pidOf(ts *testscript.TestScript, nameOrFile string) int {
	if processesOf(ts).get(nameOrFile) != nil {
		return pidIn(ts, nameOrFile+".pid")
	}
	return pidIn(ts, nameOrFile)
}

func pidIn(ts *testscript.TestScript, file string) int {
	line, _, _ := strings.Cut(ts.ReadFile(file), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		ts.Fatalf("no pid in %s: %q", file, line)
	}
	return pid
}

// killRemaining gives the processes of the script two seconds to exit, kills the rest and returns
// their command lines.
func (ps *processes) killRemaining() string {
	deadline := time.Now().Add(2 * time.Second)
	for len(ps.running()) > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	var names []string
	for pid, name := range ps.running() {
		names = append(names, fmt.Sprintf("%d (%s)", pid, name))
	}
	ps.kill()
	return strings.Join(names, ", ")
}

// kill kills processes until none is left: a superdaemon may start another worker meanwhile.
func (ps *processes) kill() {
	for range 100 {
		running := ps.running()
		if len(running) == 0 {
			return
		}
		for pid := range running {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// running returns the command lines of the script's processes by pid. Those that left their process
// group are found by their environment.
func (ps *processes) running() map[int]string {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	found := map[int]string{}
	for _, p := range ps.byName {
		select {
		case <-p.exited:
		default:
			found[p.cmd.Process.Pid] = p.cmd.Args[4]
		}
	}
	files, _ := filepath.Glob("/proc/[1-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err == nil && strings.Contains("\x00"+string(env), "\x00WORK="+ps.workDir+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			cmdline, _ := os.ReadFile(filepath.Dir(file) + "/cmdline")
			found[pid] = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}
