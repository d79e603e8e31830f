//go:build conformance

package conformance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/load"
)

// timeout is how long a test waits for a condition.
const timeout = 30 * time.Second

// superdaemon is a start_server, the original or the tested one, that runs in a directory with its
// pid file, status file and log.
type superdaemon struct {
	t      *testing.T
	binDir string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
}

func newSuperdaemon(t *testing.T, binDir, dir string) *superdaemon {
	return &superdaemon{t: t, binDir: binDir, dir: dir}
}

// start starts start_server with these arguments.
func (d *superdaemon) start(args ...string) {
	d.run(append([]string{d.binDir + "/start_server", "--pid-file=pid", "--status-file=status"}, args...)...)
}

func (d *superdaemon) run(args ...string) {
	log, err := os.OpenFile(d.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = d.command(args...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	exited := make(chan struct{})
	cmd := d.cmd
	d.exited = exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
	d.t.Cleanup(func() { unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
}

// command returns a command to run in the directory, with the programs beside start_server in PATH.
func (d *superdaemon) command(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "PATH="+d.binDir+":/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd
}

func (d *superdaemon) file(name string) string { return filepath.Join(d.dir, name) }

func (d *superdaemon) signal(name string) {
	if err := d.cmd.Process.Signal(unix.SignalNum("SIG" + name)); err != nil {
		d.t.Error(err)
	}
}

// insist sends a signal, and under the original once more if done is not called in ten seconds: when
// one arrives just before it waits, it acts on it only when something else happens.
func (d *superdaemon) insist(name string) (done func()) {
	d.signal(name)
	if d.binDir != original {
		return func() {}
	}
	again := time.AfterFunc(10*time.Second, func() { d.signal(name) })
	return func() { again.Stop() }
}

// stop sends TERM and waits for exit status 0.
func (d *superdaemon) stop() {
	defer d.insist("TERM")()
	d.waitExit()
}

func (d *superdaemon) waitExit() {
	select {
	case <-d.exited:
		if !d.cmd.ProcessState.Success() {
			d.t.Errorf("%s: %v; its log:\n%s", d.binDir, d.cmd.ProcessState, d.read("log"))
		}
	case <-time.After(timeout):
		d.t.Errorf("%s does not exit; its log:\n%s", d.binDir, d.read("log"))
	}
}

func (d *superdaemon) read(name string) string {
	text, _ := os.ReadFile(d.file(name))
	return string(text)
}

func (d *superdaemon) waitStatus(pattern string) { d.waitMatch("status", pattern) }

func (d *superdaemon) waitMatch(name, pattern string) {
	wanted := regexp.MustCompile(pattern)
	d.until(func() bool { return wanted.MatchString(d.read(name)) }, name+" matches "+pattern)
}

// waitAnswer waits until a server answers at the TCP address: it may take longer than the interval.
func (d *superdaemon) waitAnswer(address string) {
	d.until(func() bool {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		target := load.Target{Network: "tcp", Address: address, Timeout: time.Second}
		target.Pause = time.Millisecond
		time.AfterFunc(time.Millisecond, stop)
		return load.Run(ctx, target, 1, false).Answered > 0
	}, "answers at "+address)
}

func (d *superdaemon) until(condition func() bool, what string) {
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s: timed out: %s; status:\n%s\nlog:\n%s", d.binDir, what, d.read("status"),
				strings.TrimSpace(d.read("log")))
		}
	}
}
