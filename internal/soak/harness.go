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
	"slices"
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
	hang    string // where the file system is that can hang, "" for none
	port    string // "127.0.0.1:8080", of TCP and, with --steer-udp, UDP
	dir     string
	cmd     *exec.Cmd
	ended   chan error
	rand    *rand.Rand
	client  http.Client
	variant *variant
	groups  []int // process groups of the superdaemons
}

// newHarness builds what is needed.
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
	return s, s.install(binary)
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
		"--kill-timeout=10"}, append(s.variant.options, options...)...)
	if s.variant.name == "steer" {
		args = append(args, "--port="+strings.Replace(s.port, ":", ":u", 1))
	}
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
	if v := s.variant; !s.gone() {
		v.generations += s.newest()
		v.last = s.sample()
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
	return fmt.Sprintf("status file %q, processes %v, %+v at first, %+v now, log:\n%s",
		status, s.processes(), s.variant.first, s.sample(), log[max(0, len(log)-1500):])
}

// ask returns the generation and the pid of a worker that answers, with --workers the pid of its
// parent, zeros if none does.
func (s *harness) ask() (generation, pid int) {
	response, err := s.client.Get("http://localhost/")
	if err != nil {
		return 0, 0
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	fmt.Sscan(string(body), &generation, &pid)
	if s.variant.copies > 0 && pid != 0 {
		pid = parent(pid)
	}
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

// child is a process below the superdaemon.
type child struct {
	pid   int
	name  string
	state string // proc_pid_stat(5): Z is a zombie
}

// processes lists all processes below the superdaemon.
func (s *harness) processes() []child {
	list := children(s.cmd.Process.Pid)
	for _, c := range list {
		list = append(list, children(c.pid)...)
	}
	return list
}

// expected is how many there are if all is well: the worker, its copies, the log command.
func (s *harness) expected() int { return 2 + s.variant.copies }

// children lists the children of a process, youngest last.
func children(of int) (list []child) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", of))
	for _, file := range files {
		pids, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(pids)) {
			pid, _ := strconv.Atoi(word)
			if name, rest := stat(pid); rest != "" {
				list = append(list, child{pid, name, rest[:1]})
			}
		}
	}
	return list
}

// stat returns the name of a process and what follows it in proc_pid_stat(5), "" if it is gone.
func stat(pid int) (name, rest string) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	before, rest, _ := strings.Cut(string(text), ") ")
	_, name, _ = strings.Cut(before, "(")
	return name, rest
}

func parent(pid int) (parent int) {
	_, rest := stat(pid)
	if fields := strings.Fields(rest); len(fields) > 1 {
		parent, _ = strconv.Atoi(fields[1])
	}
	return parent
}

// named are the pids of the children that run the program of that name.
func (s *harness) named(name string) (pids []int) {
	for _, c := range children(s.cmd.Process.Pid) {
		if c.name == name && c.state != "Z" {
			pids = append(pids, c.pid)
		}
	}
	return pids
}

// workers are the pids of the workers. With --workers these are processes of start_server's own,
// whose name is exe until they have started.
func (s *harness) workers() []int {
	if s.variant.copies > 0 {
		return append(s.named("start_server"), s.named("exe")...)
	}
	return s.named("app")
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
		return s.newest() > after && len(s.workers()) == 1
	})
	if err != nil {
		return err
	}
	if err := s.until("no zombie, all copies have started, a log command", func() bool {
		list := s.processes()
		unfinished := slices.ContainsFunc(list, func(c child) bool { return c.state == "Z" || c.name == "exe" })
		return len(list) == s.expected() && !unfinished && len(s.named("cat")) == 1
	}); err != nil {
		return err
	}
	first := s.variant.first.descriptors
	return s.until(fmt.Sprintf("%d descriptors", first), func() bool { return s.sample().descriptors == first })
}

// logged counts the lines of the log that hold the text.
func (s *harness) logged(text string) int {
	log, _ := os.ReadFile(s.path("log/log"))
	return strings.Count(string(log), text)
}
