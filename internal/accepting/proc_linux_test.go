package accepting

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/procfs"
)

// TestMain makes the test binary the worker, or the process that looks at it.
func TestMain(m *testing.M) {
	if how := os.Getenv("WORKER"); how != "" {
		work(how)
		return
	}
	if target := os.Getenv("WATCH"); target != "" {
		pid, _ := strconv.Atoi(target)
		Watch(nil, pid, []Socket{{"key", 1}}, func(r Report) { fmt.Printf("%v %v\n", r.Missing, r.Unseen) })
		return
	}
	os.Exit(m.Run())
}

// work waits for connections on the descriptors 3 and 4, in the given way, or does not. Before, it
// reports that on standard output.
func work(how string) {
	runtime.LockOSThread()
	epoll, _ := unix.EpollCreate1(0)
	add := func(events uint32) {
		for fd := int32(3); fd <= 4; fd++ {
			_ = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: events, Fd: fd})
		}
	}
	poll := func(events int16) []unix.PollFd {
		return []unix.PollFd{{Fd: 3, Events: events}, {Fd: 4, Events: events}}
	}
	set := &unix.FdSet{}
	set.Set(3)
	set.Set(4)
	sleep := func() { _, _ = unix.Poll(nil, -1) }
	ways := map[string]func(){
		"accept":      func() { go acceptOn(3); acceptOn(4) },
		"accept half": func() { acceptOn(3) },
		"poll":        func() { _, _ = unix.Poll(poll(unix.POLLIN), -1) },
		"poll out":    func() { _, _ = unix.Poll(poll(unix.POLLPRI), -1) },
		"ppoll":       func() { _, _ = unix.Ppoll(poll(0x40), nil, nil) },
		"select":      func() { _, _ = unix.Select(5, set, nil, nil, nil) },
		"select out":  func() { _, _ = unix.Select(5, nil, nil, set, nil) },
		"pselect":     func() { _, _ = unix.Pselect(5, set, nil, nil, nil, nil) },
		"epoll":       func() { add(unix.EPOLLIN | unix.EPOLLET); sleep() },
		"epoll out":   func() { add(unix.EPOLLPRI); sleep() },
		"connection":  func() { take(3); take(4); fmt.Print("accepted\n"); sleep() },
		"flood":       flood,
		"sleep":       sleep,
		"child":       func() { spawn("poll") },
		"grandchild":  func() { spawn("child") },
		"exit":        func() { os.Exit(0) },
	}
	if how != "child" && how != "grandchild" {
		fmt.Print(how, "\n")
	}
	ways[how]()
	sleep()
}

func acceptOn(fd int) { _, _, _ = unix.Accept4(fd, 0) }

// take accepts a connection without waiting for it in the system call, as in a flood.
func take(fd int) (connection int) {
	_ = unix.SetNonblock(fd, true)
	for {
		if connection, _, err := unix.Accept(fd); err == nil {
			return connection
		}
	}
}

// flood holds each connection for a short time.
func flood() {
	for {
		for fd := 3; fd <= 4; fd++ {
			connection := take(fd)
			for began := time.Now(); time.Since(began) < 100*time.Microsecond; {
			}
			unix.Close(connection)
		}
	}
}

func spawn(how string) {
	c := exec.Command("/proc/self/exe")
	c.Env = []string{"WORKER=" + how}
	c.Stdout, c.ExtraFiles = os.Stdout, []*os.File{os.NewFile(3, ""), os.NewFile(4, "")}
	_ = c.Run()
}

// A worker is a process that works on two listening sockets.
type worker struct {
	*exec.Cmd
	listeners []net.Listener
	sockets   []Socket
	output    io.Reader
}

func start(t *testing.T, how string) *worker {
	t.Helper()
	w := &worker{Cmd: exec.Command("/proc/self/exe")}
	w.Env = []string{"WORKER=" + how}
	for _, address := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(t.TempDir(), "sock")}} {
		l, err := net.Listen(address[0], address[1])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		file, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		var st unix.Stat_t
		if err := unix.Fstat(int(file.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		w.listeners, w.ExtraFiles = append(w.listeners, l), append(w.ExtraFiles, file)
		w.sockets = append(w.sockets, Socket{l.Addr().Network(), st.Ino})
	}
	w.output, _ = w.StdoutPipe()
	w.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-w.Process.Pid, syscall.SIGKILL); _ = w.Wait() })
	return w
}

// await waits until the worker has written a line.
func (w *worker) await(t *testing.T) {
	t.Helper()
	for b := make([]byte, 1); b[0] != '\n'; {
		if _, err := w.output.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

// connect connects to both sockets, and waits until the worker has accepted that.
func (w *worker) connect(t *testing.T) {
	t.Helper()
	for _, l := range w.listeners {
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	w.await(t)
}

// watch returns the reports of Watch, as text, until it returns.
func (w *worker) watch(stop <-chan struct{}) (reports []string) {
	Watch(stop, w.Process.Pid, w.sockets, func(r Report) { reports = append(reports, fmt.Sprint(r.Missing, r.Unseen)) })
	return reports
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"accept", "poll", "ppoll", "select", "pselect", "epoll", "child", "grandchild"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			if reports := start(t, how).watch(nil); reports[len(reports)-1] != "[]" {
				t.Errorf("reports: %q", reports)
			}
		})
	}
}

// TestWatchConnection checks that a worker which was flooded before it waited, and does not wait for
// connections any more, counts as waiting if it holds a connection.
func TestWatchConnection(t *testing.T) {
	t.Parallel()
	w := start(t, "connection")
	w.await(t)
	w.connect(t)
	if reports := w.watch(nil); !slices.Equal(reports, []string{"[]"}) {
		t.Errorf("reports: %q", reports)
	}
}

// TestWatchFlood checks a worker that never waits, and closes each connection soon.
func TestWatchFlood(t *testing.T) {
	t.Parallel()
	w := start(t, "flood")
	w.await(t)
	for _, l := range w.listeners {
		go func() {
			for {
				c, err := net.Dial(l.Addr().Network(), l.Addr().String())
				if err != nil {
					return // the end of the test
				}
				_, _ = c.Read(make([]byte, 1))
				c.Close()
			}
		}()
	}
	if reports := w.watch(nil); reports[len(reports)-1] != "[]" {
		t.Errorf("reports: %q", reports)
	}
}

// TestLookLeaks checks that no look leaves a descriptor open.
func TestLookLeaks(t *testing.T) {
	w := start(t, "connection")
	w.await(t)
	w.connect(t)
	count := func() int { fds, _ := procfs.Names("/proc/self/fd"); return len(fds) }
	newView(w.Process.Pid, w.sockets).look()
	before := count()
	for range 20 {
		v := newView(w.Process.Pid, w.sockets)
		if v.look(); len(v.missing) > 0 {
			t.Fatalf("missing %v", v.missingKeys())
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors after 20 looks, %d before", after, before)
	}
}

// TestWatchNot checks that nothing else looks like waiting.
func TestWatchNot(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]string{
		"sleep": "[tcp unix]", "poll out": "[tcp unix]", "select out": "[tcp unix]", "epoll out": "[tcp unix]",
		"connection": "[tcp unix]", "accept half": "[unix]",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := start(t, how)
			w.await(t)
			v := newView(w.Process.Pid, w.sockets)
			deadline := time.Now().Add(20 * time.Second)
			for looks := 0; looks < 20 || fmt.Sprint(v.missingKeys()) != want; looks++ {
				if unseen := v.look(); unseen != nil || time.Now().After(deadline) {
					t.Fatalf("missing %v, unseen %v; want missing %s", v.missingKeys(), unseen, want)
				}
			}
		})
	}
}

// TestWatchStopped checks a worker whose system call was interrupted.
func TestWatchStopped(t *testing.T) {
	t.Parallel()
	w := start(t, "poll")
	w.watch(nil)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := w.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		// A view of its own: Watch would wait for SIGCONT.
		for v := newView(w.Process.Pid, w.sockets); sig == syscall.SIGCONT && len(v.missing) > 0; {
			if unseen := v.look(); unseen != nil {
				t.Fatal(unseen)
			}
		}
	}
}

// TestWatchEnds checks that Watch returns if it is told to, and that it reports nothing else of a worker
// that is gone, or a zombie.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"sleep", "exit"} {
		w, stop := start(t, how), make(chan struct{})
		for how == "exit" && !hasEnded(w.Process.Pid) {
			time.Sleep(time.Millisecond)
		}
		close(stop)
		if reports := w.watch(stop); !slices.Equal(reports, []string{"[tcp unix]"}) {
			t.Errorf("reports of %s: %q", how, reports)
		}
		if how == "exit" {
			_ = w.Wait()
			if unseen := newView(w.Process.Pid, w.sockets).look(); unseen != nil {
				t.Error(unseen)
			}
		}
	}
}

// TestWatchUnseen watches as a user who may not look at the worker.
func TestWatchUnseen(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	w := start(t, "sleep")
	self := filepath.Join(t.TempDir(), "test")
	executable, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(self, executable, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(self); dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		flags  uintptr
		script string
		want   string
	}{
		"other user": {0, "", "permission denied (requires the same user, or CAP_SYS_PTRACE)"},
		"hidepid":    {unix.CLONE_NEWNS, "mount -t proc -o hidepid=2 proc /proc && ", "/proc does not show process"},
		"no proc":    {unix.CLONE_NEWNS, "mount -t tmpfs tmpfs /proc && ", "/proc is not that of this PID namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := exec.Command("/bin/sh", "-c", test.script+"exec setpriv --reuid=65534 --regid=65534 --clear-groups "+self)
			c.Env = append(os.Environ(), fmt.Sprint("WATCH=", w.Process.Pid))
			c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: test.flags}
			output, err := c.CombinedOutput()
			if err != nil || !strings.Contains(string(output), test.want) {
				t.Errorf("%v: %s\nwant %s", err, output, test.want)
			}
		})
	}
}
