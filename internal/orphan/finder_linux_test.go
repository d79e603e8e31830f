package orphan

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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

	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/status"
)

// bind returns a listening socket for a worker to inherit, and its address. The caller has to close
// the socket, so that only workers hold it.
func bind(t *testing.T, network, at string) (*os.File, Address) {
	t.Helper()
	var file *os.File
	var addr net.Addr
	if network == "udp4" {
		c, err := net.ListenPacket(network, at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		addr = c.LocalAddr()
		file, err = c.(*net.UDPConn).File()
		if err != nil {
			t.Fatal(err)
		}
	} else {
		l, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		defer l.Close()
		addr = l.Addr()
		file, err = l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
	}
	if network == "unix" {
		return file, PathAddress(at)
	}
	a := Address{Key: addr.String(), Ports: []netip.AddrPort{netip.MustParseAddrPort(addr.String())}, UDP: network == "udp4"}
	return file, a
}

// hold starts a program that inherits the descriptor.
func hold(t *testing.T, file *os.File, env []string, program ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // its children as well
		cmd.Wait()
	})
	return cmd
}

func workerEnv(a Address, generation int) []string {
	return []string{"SERVER_STARTER_PORT=" + a.Key + "=3", fmt.Sprint("SERVER_STARTER_GENERATION=", generation)}
}

// take takes the socket over and closes it, and returns the workers.
func take(t *testing.T, f *Finder, a Address) ([]Worker, error) {
	t.Helper()
	got, err := f.Take(a)
	if err == nil {
		unix.Close(got.FD)
	}
	workers := f.Workers()
	closeAll(workers)
	return workers, err
}

func TestTake(t *testing.T) {
	t.Parallel()
	for name, at := range map[string][2]string{
		"tcp":  {"tcp4", "127.0.0.1:0"},
		"tcp6": {"tcp6", "[::1]:0"},
		"udp":  {"udp4", "127.0.0.1:0"},
		"unix": {"unix", filepath.Join(t.TempDir(), "s")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, a := bind(t, at[0], at[1])
			second := hold(t, file, workerEnv(a, 2), "sleep", "1000")
			first := hold(t, file, workerEnv(a, 1), "sleep", "1000")
			var want unix.Stat_t
			if err := unix.Fstat(int(file.Fd()), &want); err != nil {
				t.Fatal(err)
			}
			file.Close()
			MarkStopSent(first.Process.Pid)

			f := NewFinder("")
			got, err := f.Take(a)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(got.FD)
			var st unix.Stat_t
			if err := unix.Fstat(got.FD, &st); err != nil || st.Ino != want.Ino {
				t.Errorf("copied another socket: %v, %v", st.Ino, err)
			}
			if flags, err := unix.FcntlInt(uintptr(got.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("children inherit it: %#x, %v", flags, err)
			}
			workers := f.Workers()
			defer closeAll(workers)
			if len(workers) != 2 || workers[0].PID != first.Process.Pid || workers[1].PID != second.Process.Pid ||
				workers[0].Generation != 1 || workers[1].Generation != 2 || !workers[0].StopSent || workers[1].StopSent {
				t.Errorf("the workers are %+v", workers)
			}
		})
	}
}

// TestTop checks that the children of a worker do not count as workers.
func TestTop(t *testing.T) {
	t.Parallel()
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	defer file.Close()
	worker := hold(t, file, workerEnv(a, 7), "sh", "-c", "sleep 1000 & echo $! >&2; wait")
	workers, err := take(t, NewFinder(""), a)
	if err != nil || len(workers) != 1 || workers[0].PID != worker.Process.Pid || workers[0].Generation != 7 {
		t.Errorf("%+v, %v", workers, err)
	}
}

// TestNone checks that the socket is not taken if any process that holds it is not a worker.
func TestNone(t *testing.T) {
	t.Parallel()
	superdaemon := filepath.Join(t.TempDir(), "start_server")
	if err := os.WriteFile(superdaemon, []byte("#!/bin/sh\nsleep 1000; :\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(t *testing.T, file *os.File, a Address){
		"no holder":       func(*testing.T, *os.File, Address) {},
		"another process": func(t *testing.T, file *os.File, _ Address) { hold(t, file, nil, "sleep", "1000") },
		"a worker of another address": func(t *testing.T, file *os.File, _ Address) {
			hold(t, file, workerEnv(PathAddress("/x"), 1), "sleep", "1000")
		},
		"a superdaemon":               func(t *testing.T, file *os.File, a Address) { hold(t, file, workerEnv(a, 1), superdaemon) },
		"a worker without the socket": func(t *testing.T, _ *os.File, a Address) { hold(t, nil, workerEnv(a, 1), "sleep", "1000") },
		"a worker and another process": func(t *testing.T, file *os.File, a Address) {
			hold(t, file, workerEnv(a, 1), "sleep", "1000")
			hold(t, file, nil, "sleep", "1000")
		},
		"a worker and its superdaemon": func(t *testing.T, file *os.File, a Address) {
			hold(t, file, nil, "sh", "-c", `SERVER_STARTER_PORT=$1=3 sleep 1000; :`, "sh", a.Key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, a := bind(t, "tcp4", "127.0.0.1:0")
			start(t, file, a)
			file.Close()
			if workers, err := take(t, NewFinder(""), a); err != ErrNone || len(workers) > 0 {
				t.Errorf("%+v, %v", workers, err)
			}
		})
	}
}

// TestDetached checks that a job which a worker has started in a session of its own is no worker,
// unless the status file names it.
func TestDetached(t *testing.T) {
	t.Parallel()
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	defer file.Close()
	job := exec.Command("sleep", "1000")
	job.Env, job.ExtraFiles = append(os.Environ(), workerEnv(a, 1)...), []*os.File{file}
	job.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	defer job.Wait()
	defer job.Process.Kill()
	waitExecuted(t, job.Process.Pid)

	var detached *DetachedError
	workers, err := take(t, NewFinder(""), a)
	if !errors.As(err, &detached) || detached.PID != job.Process.Pid || len(workers) > 0 {
		t.Errorf("alone: %+v, %v", workers, err)
	}
	worker := hold(t, file, workerEnv(a, 1), "sleep", "1000")
	workers, err = take(t, NewFinder(""), a)
	if err != nil || len(workers) != 1 || workers[0].PID != worker.Process.Pid {
		t.Errorf("beside a worker: %+v, %v", workers, err)
	}
	left := filepath.Join(t.TempDir(), "status")
	if err := status.Write(left, []status.Worker{{Generation: 1, PID: job.Process.Pid}}); err != nil {
		t.Fatal(err)
	}
	if workers, err = take(t, NewFinder(left), a); err != nil || len(workers) != 2 {
		t.Errorf("named: %+v, %v", workers, err)
	}
}

// TestUnixFile checks that a unix socket is found by its file, not by its name.
func TestUnixFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	old, a := bind(t, "unix", path)
	hold(t, old, workerEnv(a, 1), "sleep", "1000")
	old.Close()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := take(t, NewFinder(""), a); err != ErrNone {
		t.Errorf("taken without a file: %v", err)
	}
	file, _ := bind(t, "unix", path)
	worker := hold(t, file, workerEnv(PathAddress("s"), 2), "sleep", "1000")
	file.Close()
	workers, err := take(t, NewFinder(""), a)
	if err != nil || len(workers) != 1 || workers[0].PID != worker.Process.Pid {
		t.Errorf("%+v, %v", workers, err)
	}
}

// TestStatusFile checks that workers are found by the status file if they have overwritten their
// environment, or hold no socket any more.
func TestStatusFile(t *testing.T) {
	t.Parallel()
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	titled := hold(t, file, nil, "env", "-i", "sleep", "1000")
	draining := hold(t, nil, workerEnv(a, 4), "sleep", "1000")
	other := hold(t, nil, []string{"SERVER_STARTER_GENERATION=9"}, "sleep", "1000") // has the pid of a worker that died
	file.Close()
	for _, cmd := range []*exec.Cmd{titled, draining, other} {
		waitExecuted(t, cmd.Process.Pid)
	}
	left := filepath.Join(t.TempDir(), "status")
	if err := status.Write(left, []status.Worker{{Generation: 3, PID: other.Process.Pid},
		{Generation: 4, PID: draining.Process.Pid}, {Generation: 5, PID: titled.Process.Pid}}); err != nil {
		t.Fatal(err)
	}
	f := NewFinder(left)
	got, err := f.Take(a)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(got.FD)
	f.AdoptNamed()
	workers := f.Workers()
	closeAll(workers)
	if len(workers) != 2 || workers[0].PID != draining.Process.Pid || workers[1].PID != titled.Process.Pid || workers[1].Generation != 5 {
		t.Errorf("%+v", workers)
	}
}

// TestAdopt checks that the workers which hold a socket of the service manager are found, if their
// superdaemon is gone.
func TestAdopt(t *testing.T) {
	t.Parallel()
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	defer file.Close()
	hold(t, file, workerEnv(a, 1), "sleep", "1000") // its parent lives
	orphan := func(env []string, file *os.File) int {
		cmd := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
		cmd.ExtraFiles = []*os.File{file}
		text, err := cmd.Output()
		pid, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		t.Cleanup(func() { unix.Kill(pid, unix.SIGKILL) })
		waitExecuted(t, pid)
		return pid
	}
	orphan(nil, file)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	orphan(workerEnv(a, 2), null)
	want := orphan(workerEnv(a, 3), file)
	f := NewFinder("")
	f.Adopt(int(file.Fd()), a.Key)
	workers := f.Workers()
	closeAll(workers)
	if len(workers) != 1 || workers[0].PID != want || workers[0].Generation != 3 {
		t.Errorf("%+v, want %d", workers, want)
	}
}

// waitExecuted waits until the process executes sleep(1).
func waitExecuted(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if comm, _ := os.ReadFile(procFile(pid, "comm")); string(comm) == "sleep\n" {
			return
		}
	}
	t.Fatalf("%d does not run sleep", pid)
}

// TestReusedPID checks that a process which is younger than the status file is not the one it
// names.
func TestReusedPID(t *testing.T) {
	t.Parallel()
	p := hold(t, nil, nil, "sleep", "1000").Process.Pid
	file := filepath.Join(t.TempDir(), "status")
	if err := status.Write(file, []status.Worker{{Generation: 1, PID: p}}); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	f := NewFinder(file)
	if f.AdoptNamed(); len(f.workers) > 0 {
		t.Errorf("adopted %+v", f.Workers())
	}
}

// TestDying checks that Take waits for the end of a superdaemon that is being killed.
func TestDying(t *testing.T) {
	t.Parallel()
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	superdaemon := hold(t, file, nil, "sleep", "1000")
	worker := hold(t, file, workerEnv(a, 1), "sleep", "1000")
	file.Close()
	time.AfterFunc(100*time.Millisecond, func() { superdaemon.Process.Kill() })
	workers, err := take(t, NewFinder(""), a)
	if err != nil || len(workers) != 1 || workers[0].PID != worker.Process.Pid {
		t.Errorf("%+v, %v", workers, err)
	}
}

// TestUnseen checks that Take does not wait long for a socket that no process in /proc holds, here
// because the snapshot leaves out this one. A zombie does not delay it.
func TestUnseen(t *testing.T) {
	t.Parallel()
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	waitProcess(t, zombie.Process.Pid, func(p *process) bool { return p.exiting && !p.closing })
	for _, network := range []string{"tcp4", "udp4", "unix"} {
		at := "127.0.0.1:0"
		if network == "unix" {
			at = filepath.Join(t.TempDir(), "s")
		}
		file, a := bind(t, network, at)
		defer file.Close()
		start := time.Now()
		if _, err := take(t, NewFinder(""), a); err != ErrUnseen || time.Since(start) > settleTime/2 {
			t.Errorf("%s: %v after %v", network, err, time.Since(start))
		}
	}
}

// TestFirstThreadEnded checks that a process whose first thread has ended, which /proc shows as a
// zombie, does not delay a start, whether it holds the socket or not.
func TestFirstThreadEnded(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{"the holder": ErrNone, "another process": ErrUnseen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, a := bind(t, "tcp4", "127.0.0.1:0")
			defer file.Close()
			held := file
			if want == ErrUnseen {
				held = nil // only this process, which Take does not see, has the socket
			}
			p := hold(t, held, []string{threadVariable + "=1"}, "/proc/self/exe").Process.Pid
			waitProcess(t, p, func(l *process) bool { return l.thread != p })
			start := time.Now()
			if _, err := take(t, NewFinder(""), a); err != want || time.Since(start) > settleTime/2 {
				t.Errorf("%v after %v, want %v", err, time.Since(start), want)
			}
		})
	}
}

// TestPause checks that an error of Pause ends Take: here it waits for a process that is young, and
// may not have executed its program yet.
func TestPause(t *testing.T) {
	t.Parallel()
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	defer file.Close()
	stopped := errors.New("stopped")
	f := NewFinder("")
	f.Pause = func(time.Duration) error { return stopped }
	for range 100 { // this machine may be so slow that the process is not young any more
		hold(t, file, nil, "sleep", "1000")
		if _, err := f.Take(a); err == stopped {
			return
		}
	}
	t.Error("Take does not return the error of Pause")
}

// takeVariable makes this program take over the socket at an address, say on standard output whether
// it has, and wait until its standard input ends.
const takeVariable = "TEST_TAKE"

func init() {
	if at := os.Getenv(takeVariable); at != "" {
		io.ReadFull(os.Stdin, make([]byte, 1))
		_, err := NewFinder("").Take(Address{Key: at, Ports: []netip.AddrPort{netip.MustParseAddrPort(at)}})
		fmt.Println(err)
		io.ReadAll(os.Stdin)
		os.Exit(0)
	}
}

// TestAtOnce checks that only one of several superdaemons that start at the same time takes over the
// socket.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	hold(t, file, workerEnv(a, 1), "sleep", "1000")
	file.Close()
	const count = 4
	inputs, outputs := [count]io.WriteCloser{}, [count]*bufio.Reader{}
	for i := range count {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{takeVariable + "=" + a.Key}
		inputs[i], _ = cmd.StdinPipe()
		output, _ := cmd.StdoutPipe()
		outputs[i] = bufio.NewReader(output)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer inputs[i].Close()
	}
	for _, input := range inputs {
		input.Write([]byte{0})
	}
	taken := 0
	for _, output := range outputs {
		switch line, err := output.ReadString('\n'); {
		case line == "<nil>\n":
			taken++
		case err != nil || line != ErrNone.Error()+"\n":
			t.Errorf("%q, %v", line, err)
		}
	}
	if taken != 1 {
		t.Errorf("%d have taken it", taken)
	}
}

// threadVariable makes this program end its first thread and keep running.
const threadVariable = "TEST_END_FIRST_THREAD"

func init() {
	if os.Getenv(threadVariable) != "" {
		go unix.Pause()
		runtime.LockOSThread()
		syscall.Syscall(unix.SYS_EXIT, 0, 0, 0)
	}
}

// waitProcess waits until /proc shows the process in a state.
func waitProcess(t *testing.T, pid int, state func(*process) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if p := look(pid); p != nil && state(p) {
			return
		}
	}
	t.Fatalf("process %d: %+v", pid, look(pid))
}

// TestBarePort checks that a bare port, which start_server binds for IPv4, takes over an IPv6
// socket only if that accepts IPv4 as well.
func TestBarePort(t *testing.T) {
	t.Parallel()
	for _, udp := range []bool{false, true} {
		t.Run(fmt.Sprint("udp ", udp), func(t *testing.T) {
			t.Parallel()
			only, ipv4, port := bindFamilies(t, udp)
			a := bareAddress(t, port, udp)
			hold(t, only, workerEnv(a, 1), "sleep", "1000")
			only.Close()
			// This process, which Take does not see, holds the IPv4 socket.
			if workers, err := take(t, NewFinder(""), a); err != ErrUnseen || len(workers) > 0 {
				t.Errorf("%+v, %v", workers, err)
			}
			worker := hold(t, ipv4, workerEnv(a, 2), "sleep", "1000")
			ipv4.Close()
			workers, err := take(t, NewFinder(""), a)
			if err != nil || len(workers) != 1 || workers[0].PID != worker.Process.Pid {
				t.Errorf("beside an IPv6-only socket: %+v, %v", workers, err)
			}

			both := bindIPv6(t, udp, 0)
			a = bareAddress(t, localPort(t, both), udp)
			worker = hold(t, both, workerEnv(a, 3), "sleep", "1000")
			both.Close()
			workers, err = take(t, NewFinder(""), a)
			if err != nil || len(workers) != 1 || workers[0].PID != worker.Process.Pid {
				t.Errorf("a socket for both families: %+v, %v", workers, err)
			}
		})
	}
}

func bareAddress(t *testing.T, port int, udp bool) Address {
	t.Helper()
	a, err := PortAddress(portspec.Port{Key: fmt.Sprint(port), Port: port, UDP: udp, FD: -1})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// bindFamilies binds an IPv6-only and an IPv4 socket to one port.
func bindFamilies(t *testing.T, udp bool) (only, ipv4 *os.File, port int) {
	t.Helper()
	for range 100 {
		only = bindIPv6(t, udp, 1)
		port = localPort(t, only)
		opened, err := socket.OpenPort(portspec.Port{Port: port, UDP: udp}, 0)
		if err == nil {
			return only, os.NewFile(uintptr(opened.FD), "ipv4"), port
		}
		only.Close() // another process has the port for IPv4
	}
	t.Fatal("no port is free for both families")
	return nil, nil, 0
}

func bindIPv6(t *testing.T, udp bool, only int) *os.File {
	t.Helper()
	kind := unix.SOCK_STREAM
	if udp {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET6, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet6{})
	}
	if err == nil && !udp {
		err = unix.Listen(fd, 10)
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "ipv6")
}

func localPort(t *testing.T, file *os.File) int {
	t.Helper()
	addr, err := unix.Getsockname(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return addr.(*unix.SockaddrInet6).Port
}

// TestWatch checks that Watch reports the end of the process.
func TestWatch(t *testing.T) {
	t.Parallel()
	cmd := hold(t, nil, nil, "sleep", "1000")
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := Process{PID: cmd.Process.Pid, Descriptor: fd}
	ended := make(chan bool, 1)
	closeDescriptor := p.Watch(func() { ended <- p.Exited() })
	if p.Exited() {
		t.Error("Exited before the process was killed")
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if !<-ended {
		t.Error("not Exited when its end is reported")
	}
	closeDescriptor()
}

func TestBound(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1
   2: 00000000:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0 0
   3: short`
	for _, test := range []struct {
		addr string
		udp  bool
		want []uint64
	}{
		{"127.0.0.1:8080", false, []uint64{11}},
		{"0.0.0.0:8080", true, []uint64{13}},
		{"0.0.0.0:8080", false, nil},
		{"127.0.0.1:8081", false, nil},
	} {
		addr := netip.MustParseAddrPort(test.addr)
		if got := bound(table, addr, test.udp); hexAddress(netip.MustParseAddrPort("127.0.0.1:8080")) == "0100007F:1F90" && !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", addr, got, test.want)
		}
	}
}

func FuzzParseDiag(f *testing.F) {
	f.Add([]byte("0123456789012345\x08\x00\x00\x00/a\x00\x00\x0c\x00\x01\x0012345678"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseDiag(b); ok && s.name == "" {
			t.Errorf("a socket without a name: %+v", s)
		}
	})
}

// TestForeignSocket checks that a process of another user cannot claim to be a worker.
func TestForeignSocket(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("a socket of another user takes root")
	}
	file, a := bind(t, "tcp4", "127.0.0.1:0")
	if err := unix.Fchown(int(file.Fd()), 64990, -1); err != nil {
		t.Fatal(err)
	}
	hold(t, file, workerEnv(a, 1), "sleep", "1000")
	file.Close()
	f := NewFinder("")
	got, err := f.Take(a)
	var forbidden *ForbiddenError
	if !errors.As(err, &forbidden) || !strings.Contains(err.Error(), "created by user 64990") {
		t.Errorf("got %v, %v", got, err)
	}
	if workers := f.Workers(); len(workers) > 0 {
		t.Errorf("the workers are %+v", workers)
	}
}

// TestForbidden checks that the error names what is missing.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]*ForbiddenError{
		"taking it over from worker 7 of a start_server that was killed needs root or CAP_SYS_PTRACE, or the same user and " +
			"kernel.yama.ptrace_scope=0: operation not permitted": {PID: 7, Err: unix.EPERM},
		"if a worker of a start_server that was killed holds it, taking it over needs Linux 5.6 or later": {PID: 7, Err: unix.ENOSYS},
	} {
		if err.Error() != want || !errors.Is(err, err.Err) {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

// TestTables checks that /proc/net, for kernels without sock_diag(7), has the same sockets.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp4", "tcp6"} {
		file, a := bind(t, network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		defer file.Close()
		found, err := boundTo(a.Ports[0], false)
		if table := readTable(a.Ports[0], false); err != nil || len(found) != 1 || !slices.Equal([]uint64{found[0].inode}, table) {
			t.Errorf("%s: %v, %v, in the table %v", a.Key, found, err, table)
		}
	}
	udp, a := bind(t, "udp4", "127.0.0.1:0")
	defer udp.Close()
	found, err := boundTo(a.Ports[0], true)
	if table := readTable(a.Ports[0], true); err != nil || len(found) != 1 || !slices.Equal([]uint64{found[0].inode}, table) {
		t.Errorf("%s: %v, %v, in the table %v", a.Key, found, err, table)
	}
	path := filepath.Join(t.TempDir(), "s")
	file, _ := bind(t, "unix", path)
	defer file.Close()
	if inodes, table := listeningAt(path), listeningByName(path); len(inodes) != 1 || !slices.Equal(inodes, table) {
		t.Errorf("%v, in the table %v", inodes, table)
	}
}
