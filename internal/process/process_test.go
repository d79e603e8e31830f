package process

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// run runs a program and returns its pid, its standard output and error, and its exit status. It
// does not use Reap, which would reap the children of tests that run at the same time.
func run(t *testing.T, spec Spec) (pid int, output string, status int) {
	t.Helper()
	read, write, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	spec.Files = append([]uintptr{0, uintptr(write), uintptr(write)}, spec.Files...)
	pid, err = Start(spec)
	unix.Close(write)
	if err != nil {
		t.Fatal(err)
	}
	pipe := os.NewFile(uintptr(read), "pipe")
	defer pipe.Close()
	text, err := io.ReadAll(pipe)
	if err != nil {
		t.Fatal(err)
	}
	return pid, string(text), exitStatus(t, pid)
}

func exitStatus(t *testing.T, pid int) int {
	t.Helper()
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err == nil {
			return ws.ExitStatus()
		} else if err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

func file(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStart(t *testing.T) {
	t.Parallel()
	env := []string{"PATH=/nowhere:" + os.Getenv("PATH"), "WORD=hello", "LISTEN_PID="}
	script := file(t, 0o755, "echo \"$WORD $1\"; exit 4\n") // no magic number
	plain := file(t, 0o644, "echo no")
	for name, test := range map[string]struct {
		spec   Spec
		output string // PID stands for the pid
		status int
	}{
		"by PATH":                           {Spec{Args: []string{"sh", "-c", "echo $WORD; exit 3"}}, "hello\n", 3},
		"a script without #!":               {Spec{Args: []string{script, "arg"}}, "hello arg\n", 4},
		"relative to its directory":         {Spec{Args: []string{"./program", "x"}, Dir: filepath.Dir(script)}, "hello x\n", 4},
		"not there":                         {Spec{Args: []string{"no-such"}}, "failed to exec no-such: no such file or directory\n", 255},
		"empty name":                        {Spec{Args: []string{""}}, "failed to exec : no such file or directory\n", 255},
		"only in its directory":             {Spec{Args: []string{"program"}, Dir: filepath.Dir(script)}, "failed to exec program: no such file or directory\n", 255},
		"only in its directory, LISTEN_PID": {Spec{Args: []string{"program"}, Dir: filepath.Dir(script), SetListenPID: true}, "failed to exec program: no such file or directory\n", 255},
		"PATH relative to its directory":    {Spec{Args: []string{"program"}, Dir: filepath.Dir(script), Env: []string{"PATH=."}}, " \n", 4},
		"not executable":                    {Spec{Args: []string{plain}}, "failed to exec " + plain + ": permission denied\n", 255},
		"a directory":                       {Spec{Args: []string{"/"}}, "failed to exec /: permission denied\n", 255},
		"no directory":                      {Spec{Args: []string{"sh"}, Dir: "/no/such"}, "failed to chdir:/no/such:no such file or directory\n", int(syscall.ENOENT)},
		"LISTEN_PID":                        {Spec{Args: []string{"sh", "-c", "echo $LISTEN_PID $$"}, SetListenPID: true}, "PID PID\n", 0},
		"a script, LISTEN_PID":              {Spec{Args: []string{script, "y"}, SetListenPID: true}, "hello y\n", 4},
		"in a directory, LISTEN_PID":        {Spec{Args: []string{"sh", "-c", "pwd; echo $LISTEN_PID"}, Dir: "/", SetListenPID: true}, "/\nPID\n", 0},
		"not there, LISTEN_PID":             {Spec{Args: []string{"no-such"}, SetListenPID: true}, "failed to exec no-such: no such file or directory\n", 255},
		"a closed descriptor":               {Spec{Args: []string{"sh", "-c", "cat <&4; cat <&3"}, Files: []uintptr{Closed, 0}}, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.spec.Env == nil {
				test.spec.Env = env
			}
			pid, output, status := run(t, test.spec)
			if name == "a closed descriptor" { // the message depends on the shell
				output = ""
			}
			if want := strings.ReplaceAll(test.output, "PID", fmt.Sprint(pid)); output != want || status != test.status {
				t.Errorf("output %q, exit status %d; want %q, %d", output, status, want, test.status)
			}
		})
	}
}

// TestIsTrampoline has one that cannot report that its program does not exist, as the pipe is full.
func TestIsTrampoline(t *testing.T) {
	t.Parallel()
	if _, err := os.Readlink(selfLink); err != nil {
		t.Skip(err)
	}
	read, write, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(write, true); err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		_, err := unix.Write(write, make([]byte, 4096))
		full = err != nil
	}
	if err := unix.SetNonblock(write, false); err != nil {
		t.Fatal(err)
	}
	pid, err := Start(Spec{Args: []string{"no-such"}, Env: os.Environ(), Files: []uintptr{0, Closed, uintptr(write)}})
	unix.Close(write)
	if err != nil {
		t.Fatal(err)
	}
	if !IsTrampoline(pid) {
		t.Error("a child that has not executed its program has executed it")
	}
	unix.Close(read)
	exitStatus(t, pid)
	sleep, err := Start(Spec{Args: []string{"sleep", "1000"}, Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if IsTrampoline(sleep) {
		t.Error("a child that has executed its program has not")
	}
	if err := unix.Kill(sleep, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !IsTrampoline(sleep); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a child that has ended is known to have executed its program")
		}
	}
	exitStatus(t, sleep)
}

// TestStartSession checks that a program can be started in a session of its own.
func TestStartSession(t *testing.T) {
	t.Parallel()
	hold, release, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := StartAs("/bin/sh", Spec{
		Args: []string{"another name", "-c", "read line"}, Files: []uintptr{uintptr(hold), 1, 2}, Session: true,
	})
	unix.Close(hold)
	if err != nil {
		t.Fatal(err)
	}
	if session, err := unix.Getsid(pid); session != pid {
		t.Errorf("session %d of process %d (%v)", session, pid, err)
	}
	unix.Close(release)
	exitStatus(t, pid)
}

func TestStartAsNothing(t *testing.T) {
	t.Parallel()
	if _, err := StartAs("/no/such", Spec{Args: []string{"x"}}); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

// TestStartWithoutDescriptors is not parallel: the whole test process runs out of them.
func TestStartWithoutDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, err := Start(Spec{Args: []string{"sh"}, Env: []string{"PATH=/bin"}, Files: []uintptr{0, 1, 2}})
	_, _, pipeErr := Pipe()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, ErrFork) || !errors.Is(err, unix.EMFILE) {
		t.Errorf("Start returns %v", err)
	}
	if pipeErr == nil {
		t.Error("there were descriptors left")
	}
}

// TestReap is not parallel: it reaps every child of the test process.
func TestReap(t *testing.T) {
	for ok := true; ok; { // what other tests have left
		_, _, ok = Reap()
	}
	want := map[int]int{}
	for status := range 3 {
		pid, err := Start(Spec{Args: []string{"sh", "-c", fmt.Sprint("exit ", status)}, Env: os.Environ(), Files: []uintptr{0, 1, 2}})
		if err != nil {
			t.Fatal(err)
		}
		want[pid] = status * 256
	}
	for end := time.Now().Add(20 * time.Second); len(want) > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		pid, status, ok := Reap()
		if expected, known := want[pid]; ok && (!known || status != expected) {
			t.Errorf("process %d died with %d, want %d", pid, status, expected)
		}
		delete(want, pid)
	}
	if pid, _, ok := Reap(); ok || len(want) > 0 {
		t.Errorf("reaped %d; not reaped: %v", pid, want)
	}
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	read, write, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(read)
	defer unix.Close(write)
	if inherited := Inherited(); slices.Contains(inherited, read) || slices.Contains(inherited, write) {
		t.Errorf("a pipe of %d and %d is inherited: %v", read, write, inherited)
	}
	if err := Dup2(read, read); err != nil {
		t.Fatal(err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if err := Dup2(write, null); err != nil {
		t.Fatal(err)
	}
	if inherited := Inherited(); !slices.Contains(inherited, read) || !slices.Contains(inherited, null) || slices.Contains(inherited, write) {
		t.Errorf("%d and %d are to be inherited, %d is not: %v", read, null, write, inherited)
	}
	_, _ = unix.Write(null, []byte("x"))
	if n, err := unix.Read(read, make([]byte, 1)); n != 1 {
		t.Error("the copy is another file:", err)
	}
	if limit := DescriptorLimit(); limit < 16 || limit > math.MaxInt32 {
		t.Errorf("a process may have %d descriptors", limit)
	}
}

// TestExecutable is not parallel: it changes how this process was called.
func TestExecutable(t *testing.T) {
	running, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(running)
	if err != nil {
		t.Fatal(err)
	}
	called := os.Args[0]
	defer func() { os.Args[0] = called }()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(running, link); err != nil {
		t.Fatal(err)
	}
	os.Args[0] = link
	if got := Executable(); got != link {
		t.Errorf("called as %s it is %s", link, got)
	}
	paths := []string{self}
	for _, name := range []string{called, "/no/such", "sh"} {
		os.Args[0] = name
		paths = append(paths, Executable())
	}
	for _, path := range paths {
		if got, err := os.Stat(path); err != nil || !os.SameFile(got, want) {
			t.Errorf("%s is not what is running, %s: %v", path, running, err)
		}
	}
}

func TestLookPath(t *testing.T) {
	t.Parallel()
	here := t.TempDir()
	for path, mode := range map[string]os.FileMode{"a/prog": 0o644, "b/prog": 0o755, "a/plain": 0o644} {
		_ = os.Mkdir(filepath.Dir(filepath.Join(here, path)), 0o755)
		if err := os.WriteFile(filepath.Join(here, path), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(here+"/a/directory", 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + here + "/a:" + here + "/b"}
	for _, test := range []struct {
		program string
		env     []string
		want    string
	}{
		{"prog", env, here + "/b/prog"},
		{"plain", env, here + "/a/plain"}, // execve reports why not
		{"directory", env, ""},
		{"no-such", env, ""},
		{"process_test.go", env, ""}, // it is in the working directory
		{"./prog", env, "./prog"},
		{"", env, ""},
		{"sh", nil, "/bin/sh"},
		{"process_test.go", []string{"PATH="}, "./process_test.go"}, // "" is the working directory
	} {
		if got := lookPath(test.program, "", test.env); got != test.want {
			t.Errorf("lookPath(%q, %q) = %q, want %q", test.program, test.env, got, test.want)
		}
	}
}

func TestOwnPID(t *testing.T) {
	t.Parallel()
	want := []string{"A=1", fmt.Sprint("LISTEN_PID=", os.Getpid()), "LISTEN_PIDFDID=2"}
	if got := ownPID([]string{"A=1", "LISTEN_PID=", "LISTEN_PIDFDID=2"}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestErrno(t *testing.T) {
	t.Parallel()
	_, err := os.Stat("/no/such")
	for _, test := range []struct {
		err  error
		want syscall.Errno
	}{{err, syscall.ENOENT}, {fmt.Errorf("x: %w", syscall.EPERM), syscall.EPERM}, {errors.New("x"), syscall.EIO}} {
		if got := errno(test.err); got != test.want {
			t.Errorf("errno(%v) = %v, want %v", test.err, got, test.want)
		}
	}
}

// TestReserveThreads checks that the number of threads does not follow that of the processors.
func TestReserveThreads(t *testing.T) {
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Skip(err)
		}
		return len(list)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(100))
	before := threads()
	if ReserveThreads(2); threads() > before+20 {
		t.Errorf("%d threads, %d before", threads(), before)
	}
}
