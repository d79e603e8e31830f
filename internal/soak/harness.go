//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/measure"
)

// patience limits every wait. It is reached only if something hangs.
const patience = 40 * time.Second

// uid is the user of the superdaemon if root runs the soak. It has no other processes that its
// limits could affect.
const uid = 64990

// harness is the superdaemon under test and its directory.
type harness struct {
	hang     string // where the file system is that can hang, "" for none
	port     string // "127.0.0.1:8080"
	dir      string
	cmd      *exec.Cmd
	ended    chan error
	rand     *rand.Rand
	client   http.Client
	baseline int   // descriptors when all was well for the first time
	groups   []int // process groups of the superdaemons
}

// newHarness builds what is needed, starts the superdaemon and waits until it serves.
func newHarness(binary, hang string) (*harness, error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	s := &harness{dir: dir, hang: hang}
	s.client = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.path("sock"))
		},
	}}
	if s.port, err = measure.FreeAddress(); err != nil {
		return s, err
	}
	if err := errors.Join(s.install(binary), s.start()); err != nil {
		return s, err
	}
	if err := s.until("generation 1 serves", func() bool { return s.newest() >= 1 }); err != nil {
		return s, err
	}
	s.baseline = s.descriptors()
	return s, nil
}

func (s *harness) path(name string) string { return filepath.Join(s.dir, name) }

// install installs programs and directories for the superdaemon. The file good is a copy of app, to
// restore it from.
func (s *harness) install(binary string) error {
	if err := build(s.path("good"), "./internal/soak/worker"); err != nil {
		return err
	}
	if binary == "" {
		binary = s.path("built")
		if err := build(binary, "./cmd/start_server"); err != nil {
			return err
		}
	}
	err := errors.Join(os.Mkdir(s.path("run"), 0o755), os.Mkdir(s.path("log"), 0o755),
		replace(s.path("app"), s.path("good")), replace(s.path("binary"), binary), replace(s.path("start_server"), binary))
	if s.hang != "" {
		err = errors.Join(err, replace(filepath.Join(s.hang, "real", "app"), s.path("good")))
	}
	if os.Getuid() == 0 {
		for _, name := range []string{"", "run", "log"} {
			err = errors.Join(err, os.Chown(s.path(name), uid, uid))
		}
	}
	return errors.Join(err, os.Chmod(s.dir, 0o755))
}

func build(path, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// replace puts a copy of a program in another one's place, by rename as a deployment would.
func replace(path, by string) error {
	text, err := os.ReadFile(by)
	if err != nil {
		return err
	}
	return replaceBy(path, text, 0o755)
}

func replaceBy(path string, text []byte, mode os.FileMode) error {
	return errors.Join(os.WriteFile(path+".new", text, mode), os.Rename(path+".new", path))
}

func (s *harness) start(options ...string) error {
	args := append([]string{"--port=" + s.port, "--path=" + s.path("sock"),
		"--pid-file=pid", "--status-file=run/status", "--log-file=| exec cat >> " + s.path("log/log"),
		"--ready-timeout=2", "--kill-timeout=10"}, options...)
	s.cmd, s.ended = exec.Command(s.path("start_server"), append(args, "--", s.path("app"))...), make(chan error, 1)
	s.cmd.Dir = s.dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if os.Getuid() == 0 {
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := s.cmd, s.ended
	go func() { ended <- cmd.Wait() }()
	s.groups = append(s.groups, cmd.Process.Pid)
	return nil
}

// stop ends the superdaemon as an operator would, and reports what is left of it.
func (s *harness) stop() error {
	if s.cmd == nil || s.cmd.Process == nil {
		return nil
	}
	s.signal(syscall.SIGTERM)
	var err error
	select {
	case err = <-s.ended:
		if err != nil {
			err = fmt.Errorf("the superdaemon ended: %w", err)
		}
	case <-time.After(patience):
		err = fmt.Errorf("TERM: still there after %v", patience)
	}
	for _, name := range []string{"pid", "run/status", "sock"} {
		if _, failed := os.Lstat(s.path(name)); failed == nil {
			err = errors.Join(err, fmt.Errorf("TERM: left the file %q behind", name))
		}
	}
	for _, group := range s.groups {
		err = errors.Join(err, groupGone(group))
	}
	return err
}

// groupGone waits until a process group is gone: init may take a moment to reap what a killed
// superdaemon has left.
func groupGone(group int) error {
	for deadline := time.Now().Add(patience / 4); syscall.Kill(-group, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(-group, syscall.SIGKILL)
			return fmt.Errorf("TERM: left processes of group %d behind", group)
		}
	}
	return nil
}

func (s *harness) signal(sig syscall.Signal) { s.cmd.Process.Signal(sig) }

// until waits for a condition, or for the end of the superdaemon.
func (s *harness) until(what string, condition func() bool) error {
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if s.gone() {
			return fmt.Errorf("waiting for %q: the superdaemon is gone", what)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting for %q: not in %v; %s", what, patience, s)
		}
	}
	return nil
}

// gone reports whether the superdaemon has ended.
func (s *harness) gone() bool {
	select {
	case err := <-s.ended:
		s.ended <- err
		return true
	default:
		return false
	}
}

// String is the state, for error messages.
func (s *harness) String() string {
	status, _ := os.ReadFile(s.path("run/status"))
	log, _ := os.ReadFile(s.path("log/log"))
	return fmt.Sprintf("status file %q, children %v, %d descriptors, log:\n%s",
		status, s.children(), s.descriptors(), log[max(0, len(log)-1500):])
}

// ask returns the generation and the pid of a worker that answers, zeros if none does.
func (s *harness) ask() (generation, pid int) {
	response, err := s.client.Get("http://localhost/")
	if err != nil {
		return 0, 0
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	fmt.Sscan(string(body), &generation, &pid)
	return generation, pid
}

// newest is the generation of the one worker that the status file holds and that answers; 0 while
// it is not that way.
func (s *harness) newest() int {
	status, _ := os.ReadFile(s.path("run/status"))
	generation, pid := s.ask()
	if generation == 0 || string(status) != fmt.Sprintf("%d:%d\n", generation, pid) {
		return 0
	}
	return generation
}

// child is a process that the superdaemon is the parent of.
type child struct {
	pid   int
	name  string
	state string // proc_pid_stat(5): Z is a zombie
}

// children lists them, youngest last.
func (s *harness) children() (list []child) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	for _, file := range files {
		pids, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(pids)) {
			pid, _ := strconv.Atoi(word)
			stat, err := os.ReadFile("/proc/" + word + "/stat")
			if err != nil {
				continue // it is gone
			}
			before, after, _ := strings.Cut(string(stat), ") ")
			_, name, _ := strings.Cut(before, "(")
			list = append(list, child{pid, name, after[:1]})
		}
	}
	return list
}

// named are the pids of the children that run the program of that name.
func (s *harness) named(name string) (pids []int) {
	for _, c := range s.children() {
		if c.name == name && c.state != "Z" {
			pids = append(pids, c.pid)
		}
	}
	return pids
}

func (s *harness) descriptors() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	return len(entries)
}

// memory is the superdaemon's anonymous memory, in bytes.
func (s *harness) memory() int {
	bytes, _ := measure.AnonymousMemory(s.cmd.Process.Pid)
	return bytes
}

// recovered waits until a generation later than the given one serves, and nothing else is left of
// the fault.
func (s *harness) recovered(after int) error {
	err := s.until(fmt.Sprintf("one worker newer than generation %d serves", after), func() bool {
		return s.newest() > after && len(s.named("app")) == 1
	})
	if err != nil {
		return err
	}
	if err := s.until("no zombie, a log command", func() bool {
		list := s.children()
		return len(list) == 2 && list[0].state != "Z" && list[1].state != "Z" && len(s.named("cat")) == 1
	}); err != nil {
		return err
	}
	return s.until(fmt.Sprintf("%d descriptors", s.baseline), func() bool { return s.descriptors() == s.baseline })
}

// logged counts the lines of the log that hold the text.
func (s *harness) logged(text string) int {
	log, _ := os.ReadFile(s.path("log/log"))
	return strings.Count(string(log), text)
}
