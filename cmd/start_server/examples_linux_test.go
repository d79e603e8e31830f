package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/scripttest"
)

const patience = 30 * time.Second

// TestReadmeServers runs the commands of the README's table of languages in the directories that it
// links to: each server answers, is replaced, and stops.
func TestReadmeServers(t *testing.T) {
	bin := t.TempDir()
	scripttest.Build(t, bin, ".")
	readme := read(t, "../../README.md")
	row := regexp.MustCompile("(?m)^\\| [^|]+ \\| `start_server --port=8080 (.+?)` \\| \\[\\S+\\]\\((\\S+)\\) \\|$")
	servers := row.FindAllStringSubmatch(readme, -1)
	if len(servers) < 7 {
		t.Fatalf("found %d servers in the README", len(servers))
	}
	for _, m := range servers {
		args, file := strings.Fields(m[1]), m[2]
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			runServer(t, bin, filepath.Join("../..", filepath.Dir(file)), args)
		})
	}
	t.Run("app.go", func(t *testing.T) {
		t.Parallel()
		_, program, _ := strings.Cut(readme, "\n```go app.go\n")
		program, _, _ = strings.Cut(program, "\n```")
		dir := t.TempDir()
		source := filepath.Join(dir, "app.go")
		if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "app"), source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		runServer(t, bin, dir, []string{"--", "./app"})
	})
}

// runServer runs start_server in dir with these arguments and a port that the system chooses.
func runServer(t *testing.T, bin, dir string, args []string) {
	needPrograms(t, dir, args)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	address := l.Addr().String()
	// start_server inherits the socket, so that no other test can take its port.
	line := "LISTEN_FDS=1 LISTEN_PID=$$ exec " + bin + "/start_server --port=" + address + " " + strings.Join(args, " ")
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "0.0.0.0:8080", address))
	cmd.ExtraFiles = []*os.File{file}
	p := begin(t, dir, cmd)
	file.Close()
	p.get("http://" + address)
	p.signal(syscall.SIGHUP)
	p.until("no old worker has exited", func() bool { return strings.Contains(read(t, p.log), "\nold worker ") })
	p.get("http://" + address)
	p.signal(syscall.SIGTERM)
	p.waitExit()
}

// needPrograms skips the test if the program, or the server that it loads, is not installed.
func needPrograms(t *testing.T, dir string, args []string) {
	for i, arg := range args {
		if arg != "--" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, args[i+1])); err != nil {
			if _, err := exec.LookPath(args[i+1]); err != nil {
				t.Skip(err)
			}
		}
		if strings.Contains(strings.Join(args, " "), "Starlet") && exec.Command("perl", "-MPlack::Handler::Starlet", "-e1").Run() != nil {
			t.Skip("Starlet is not installed")
		}
	}
}

// TestReadmeReady runs the files that report readiness.
func TestReadmeReady(t *testing.T) {
	bin := t.TempDir()
	scripttest.Build(t, bin, ".")
	socket := filepath.Join(t.TempDir(), "sock")
	for name, example := range map[string]struct {
		dir    string
		worker []string
	}{
		"perl":     {"perl", []string{"perl", "-e", `do "./ready.pl"; ready(); sleep 1000`}},
		"python":   {"python", []string{"python3", "-B", "-c", "import ready, time; ready.ready(); time.sleep(1000)"}},
		"gunicorn": {"python", []string{"gunicorn", "-b", "unix:" + socket, "wsgi:app"}},
		"shell":    {"", []string{"sh", "-c", "systemd-notify --ready; exec sleep 1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := example.worker[0]
			if name == "shell" {
				program = "systemd-notify"
			}
			if _, err := exec.LookPath(program); err != nil {
				t.Skip(err)
			}
			status := filepath.Join(t.TempDir(), "status")
			args := append([]string{"--interval=3600", "--ready-timeout=3600", "--status-file=" + status, "--"}, example.worker...)
			p := begin(t, filepath.Join("../../testdata/examples", example.dir), exec.Command(bin+"/start_server", args...))
			p.until("the worker is not ready", func() bool {
				text, _ := os.ReadFile(status)
				return strings.HasPrefix(string(text), "1:")
			})
			if name == "gunicorn" { // its own worker process misses a TERM until it serves
				p.until("gunicorn does not serve", func() bool { return serves(socket) })
			}
			p.signal(syscall.SIGTERM)
			p.waitExit()
		})
	}
}

// serves reports whether a web server answers at a unix socket.
func serves(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	_, err = conn.Read(make([]byte, 1))
	return err == nil
}

// superdaemon is a start_server that runs an example.
type superdaemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    string
	exited chan error
}

func begin(t *testing.T, dir string, cmd *exec.Cmd) *superdaemon {
	t.Helper()
	p := &superdaemon{t: t, cmd: cmd, log: filepath.Join(t.TempDir(), "log"), exited: make(chan error, 1)}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return p
}

func (p *superdaemon) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// get fetches the page.
func (p *superdaemon) get(url string) {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get(url)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, read(p.t, p.log))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasPrefix(string(body), "hello from ") {
		p.t.Fatalf("%q, %v\n%s", body, err, read(p.t, p.log))
	}
}

func (p *superdaemon) until(wrong string, condition func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s\n%s", wrong, read(p.t, p.log))
		}
	}
}

// waitExit waits until the superdaemon has ended, after its workers and with exit status 0.
func (p *superdaemon) waitExit() {
	p.t.Helper()
	select {
	case err := <-p.exited:
		if err != nil || !strings.Contains(read(p.t, p.log), "\nexiting\n") {
			p.t.Errorf("%v\n%s", err, read(p.t, p.log))
		}
	case <-time.After(patience):
		p.t.Errorf("%s does not exit\n%s", p.cmd, read(p.t, p.log))
	}
}
