package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/scripttest"
)

// TestReadmeCommands runs the commands of the README and of the guide in a shell, in order, and
// waits for the lines that the document shows below each. Every section is a session of its own, in
// a copy of the sources with a server ./app, in a network namespace in which its ports are free.
func TestReadmeCommands(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip(err)
	}
	bin := t.TempDir()
	scripttest.Build(t, bin, ".", "../../testdata/hello")
	for _, document := range []string{"../../README.md", "README.md"} {
		for title, commands := range sessions(read(t, document)) {
			t.Run(document+"/"+title, func(t *testing.T) {
				t.Parallel()
				s := newSession(t, bin)
				for _, c := range commands {
					s.run(c)
				}
			})
		}
	}
}

// typed is a command in a document and the lines below it.
type typed struct {
	command string
	output  []string
}

// sessions returns the commands in the console blocks of each section of a Markdown text, by the
// section's title.
func sessions(text string) map[string][]typed {
	found := map[string][]typed{}
	title, inBlock := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		commands := found[title]
		switch {
		case line == "```console":
			inBlock = true
		case line == "```":
			inBlock = false
		case !inBlock && strings.HasPrefix(line, "#"):
			title = strings.TrimLeft(line, "# ")
		case !inBlock:
		case strings.HasPrefix(line, "$ "):
			found[title] = append(commands, typed{command: line[2:]})
		case len(commands) > 0:
			last := &commands[len(commands)-1]
			last.output = append(last.output, line)
		}
	}
	return found
}

// session is a shell that reads commands from a pipe.
type session struct {
	t     *testing.T
	stdin io.Writer
	dir   string
	exit  string // the file to which it writes the exit status of each command

	mu     sync.Mutex
	output []byte   // of all commands
	lines  []string // of the last command, without those that were waited for
}

const shellVariable = "START_SERVER_TEST_SHELL"

func newSession(t *testing.T, bin string) *session {
	dir := t.TempDir()
	for _, name := range []string{"cmd", "internal", "listener", "starter", "testdata"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS("../../"+name)); err != nil {
			t.Fatal(err)
		}
	}
	link(t, "../../Makefile", filepath.Join(dir, "Makefile"))
	link(t, "../../go.mod", filepath.Join(dir, "go.mod"))
	link(t, "../../go.sum", filepath.Join(dir, "go.sum"))
	link(t, filepath.Join(bin, "hello"), filepath.Join(dir, "app"))
	if err := os.Mkdir(filepath.Join(dir, "build"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, filepath.Join(bin, "hello"), filepath.Join(dir, "build", "app"))

	s := &session{t: t, dir: dir, exit: filepath.Join(t.TempDir(), "exit")}
	cmd := exec.Command(os.Args[0])
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), shellVariable+"=1", "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = s, s
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stdin = stdin
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) {
		t.Skipf("network namespace: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
	})
	return s
}

func link(t *testing.T, file, name string) {
	path, err := filepath.Abs(file)
	if err == nil {
		err = os.Symlink(path, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := s.output[bytes.LastIndexByte(s.output, '\n')+1:]
	for line := range strings.Lines(string(begun) + string(p)) {
		if strings.HasSuffix(line, "\n") {
			s.lines = append(s.lines, plain(line))
		}
	}
	s.output = append(s.output, p...)
	return len(p), nil
}

// run runs a command, and waits until it has succeeded and printed its output: each line, possibly
// with others, and in any order, as several processes print. Numbers may differ.
func (s *session) run(c typed) {
	s.t.Helper()
	if strings.Contains(c.command, "--restart") { // it needs a worker that has started
		s.until("a status file", s.hasStatus)
	}
	s.forgetLines()
	if _, err := fmt.Fprintf(s.stdin, "%s\necho $? >%s\n", c.command, s.exit); err != nil {
		s.t.Fatal(err)
	}
	s.until(c.command+" has exited", func() bool {
		text, _ := os.ReadFile(s.exit)
		return len(text) > 0
	})
	if status := read(s.t, s.exit); status != "0\n" {
		s.t.Fatalf("%s: exit status %s%s", c.command, status, s.text())
	}
	if err := os.Remove(s.exit); err != nil {
		s.t.Fatal(err)
	}
	for _, line := range c.output {
		s.until(fmt.Sprintf("%s prints %q", c.command, line), func() bool { return s.takeLine(plain(line)) })
	}
}

func (s *session) hasStatus() bool {
	files, err := filepath.Glob(filepath.Join(s.dir, "*status"))
	return err == nil && len(files) > 0
}

func (s *session) until(what string, condition func() bool) {
	s.t.Helper()
	for end := time.Now().Add(2 * patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not in %v: %s\n%s", 2*patience, what, s.text())
		}
	}
}

func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.output)
}

func (s *session) forgetLines() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = nil
}

// takeLine removes a line from those of the last command.
func (s *session) takeLine(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.lines, line)
	if i < 0 {
		return false
	}
	s.lines = slices.Delete(s.lines, i, i+1)
	return true
}

var number = regexp.MustCompile(`\d+`)

// plain returns a line without its end and its numbers.
func plain(line string) string {
	return number.ReplaceAllString(strings.TrimSuffix(line, "\n"), "N")
}

// In a new network namespace the test binary turns the loopback device on and executes the shell.
func init() {
	if os.Getenv(shellVariable) == "" {
		return
	}
	os.Unsetenv(shellVariable)
	err := loopbackUp()
	if err == nil {
		err = syscall.Exec("/bin/sh", []string{"sh"}, os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("name the loopback device: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("turn the loopback device on: %w", err)
	}
	return nil
}
