//go:build conformance && linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/scripttest"
)

// TestCompletion types command lines and a tab into real shells, and checks the completions.
func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	scripttest.Build(t, dir, ".")
	write(t, filepath.Join(dir, "app.pid"), "")
	write(t, filepath.Join(dir, "app file.pid"), "")
	here, err := filepath.Abs("completion")
	if err != nil {
		t.Fatal(err)
	}
	for name, shell := range map[string][]string{
		"bash": {"bash", "--norc", "--noprofile", "-i"},
		"zsh":  {"zsh", "-f", "-i"},
		"fish": {"fish", "--no-config", "-i"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Fatalf("%v: apt-get install bash zsh fish", err)
			}
			s := startShell(t, dir, shell)
			s.run(t, map[string]string{
				"bash": "PS1=; source " + here + "/start_server.bash",
				"zsh":  "PS1=; unsetopt zle_bracketed_paste; fpath=(" + here + " $fpath); autoload -Uz compinit; compinit -D -u",
				"fish": "function fish_prompt; end; set fish_complete_path " + here,
			}[name])
			for _, c := range completions {
				if got := s.complete(t, c.typed); got != c.want {
					t.Errorf("%q and tab makes %q, want %q", c.typed, got, c.want)
				}
			}
		})
	}
}

var completions = []struct{ typed, want string }{
	{"start_server --pid", "<start_server><--pid-file>"},
	{"start_server --port=80 --soc", "<start_server><--port=80><--socket-activation>"},
	{"start_server --stop-f", "<start_server><--stop-first>"},
	{"start_server --path-o", "<start_server><--path-owner>"},
	{"start_server --signal-on-hup=Q", "<start_server><--signal-on-hup=QUIT>"},
	{"start_server --signal-on-term USR1 --signal-on-hup W", "<start_server><--signal-on-term><USR1><--signal-on-hup><WINCH>"},
	{"start_server --pid-file=app.", "<start_server><--pid-file=app.pid>"},
	{"start_server --pid-file app.", "<start_server><--pid-file><app.pid>"},
	{"start_server --pid-file=app\\ f", "<start_server><--pid-file=app file.pid>"},
	{"start_server --port=80 -- start_ser", "<start_server><--port=80><--><start_server>"},
}

func write(t *testing.T, file, text string) {
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// shell is an interactive shell on a terminal of its own.
type shell struct {
	terminal *os.File
	output   chan []byte
	seen     bytes.Buffer
	count    int
}

func startShell(t *testing.T, dir string, args []string) *shell {
	terminal, name := openTerminal(t)
	line, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "HOME=" + t.TempDir(), "TERM=xterm", "LC_ALL=C"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{terminal: terminal, output: make(chan []byte)}
	go s.read()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		terminal.Close()
		for range s.output { // until read has ended
		}
	})
	return s
}

func openTerminal(t *testing.T) (terminal *os.File, name string) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(int(terminal.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 200})
	}
	if err != nil {
		t.Fatal(err)
	}
	return terminal, fmt.Sprintf("/dev/pts/%d", number)
}

func (s *shell) read() {
	defer close(s.output)
	for {
		buf := make([]byte, 4096)
		n, err := s.terminal.Read(buf)
		if err != nil {
			return
		}
		s.output <- buf[:n]
	}
}

// until waits for a text on the terminal and returns the output before it.
func (s *shell) until(t *testing.T, want string) string {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		if before, after, ok := strings.Cut(s.seen.String(), want); ok {
			s.seen.Reset()
			s.seen.WriteString(after)
			return before
		}
		select {
		case text, ok := <-s.output:
			if !ok {
				t.Fatalf("the shell has ended: %q", s.seen.String())
			}
			s.seen.Write(text)
		case <-limit:
			t.Fatalf("the terminal shows %q; want %q", s.seen.String(), want)
		}
	}
}

func (s *shell) typed(t *testing.T, keys string) {
	if _, err := s.terminal.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// run runs a command and waits until it has ended: then the shell prints a mark. The echo of the
// command does not contain the mark, since it is written there in two parts.
func (s *shell) run(t *testing.T, command string) {
	t.Helper()
	s.count++
	s.typed(t, fmt.Sprintf("%s; printf 'mark%%s.' %d\r", command, s.count))
	s.until(t, fmt.Sprintf("mark%d.", s.count))
}

// complete types words and a tab, and has the shell print the resulting words, by a command that it
// inserts at the beginning of the line (Ctrl-A).
func (s *shell) complete(t *testing.T, words string) string {
	t.Helper()
	s.typed(t, words+"\t\x01printf 'be%s' gin; printf '<%s>' \x05; printf 'en%s' d\r")
	s.until(t, "begin")
	return s.until(t, "end")
}
