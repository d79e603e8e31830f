//go:build conformance && linux

package main

import (
	"fmt"
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

// TestReadmeServers runs the servers that the README shows: each answers, is swapped, and stops in order.
func TestReadmeServers(t *testing.T) {
	bin := t.TempDir()
	scripttest.Build(t, bin, ".")
	dir := examples(t)
	gunicorn := "import os\ndef app(environ, start):\n\tstart('200 OK', [])\n\treturn [b'hello from %d' % os.getpid()]\n"
	write(t, filepath.Join(dir, "wsgi.py"), gunicorn)
	write(t, filepath.Join(dir, "config.ru"), `run ->(env) { [200, {}, ["hello from #{$$}"]] }`)
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "app"), filepath.Join(dir, "app.go")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, server := range map[string]string{
		"go":       "-- ./app",
		"starlet":  "-- plackup -s Starlet app.psgi",
		"python":   "-- python3 app.py",
		"gunicorn": "--socket-activation -- gunicorn wsgi:app",
		"ruby":     "-- ruby app.rb",
		"puma":     "--socket-activation -- puma -b tcp://ADDRESS config.ru",
		"node":     "-- node app.js",
	} {
		t.Run(name, func(t *testing.T) {
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
			// The socket is handed over, for its number not to be taken by another test.
			cmd := exec.Command("sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec "+bin+"/start_server --port="+
				address+" "+strings.Replace(server, "ADDRESS", address, 1))
			cmd.ExtraFiles = []*os.File{file}
			p := begin(t, dir, cmd)
			file.Close()
			p.ask("http://" + address)
			p.signal(syscall.SIGHUP)
			p.until("the old one does not go", func() bool { return strings.Contains(read(t, p.log), "\nold worker ") })
			p.ask("http://" + address)
			p.signal(syscall.SIGTERM)
			p.end()
		})
	}
}

// TestReadmeReady runs what the README shows of readiness.
func TestReadmeReady(t *testing.T) {
	bin := t.TempDir()
	scripttest.Build(t, bin, ".")
	dir := examples(t)
	for name, worker := range map[string]string{
		"shell":  "systemd-notify --ready; exec sleep 1000",
		"perl":   `exec perl -e 'do "./ready.pl"; ready(); sleep 1000'`,
		"python": `exec python3 -c 'import ready, time; ready.ready(); time.sleep(1000)'`,
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(bin+"/start_server", "--interval=3600", "--ready-timeout=3600", "--status-file="+name, "--", "sh", "-c", worker)
			p := begin(t, dir, cmd)
			p.until("the worker is not ready", func() bool {
				text, _ := os.ReadFile(filepath.Join(dir, name))
				return strings.HasPrefix(string(text), "1:")
			})
			p.signal(syscall.SIGTERM)
			p.end()
		})
	}
}

// examples makes files of the README's blocks that have a name.
func examples(t *testing.T) (dir string) {
	dir = t.TempDir()
	for _, m := range regexp.MustCompile("(?ms)^```\\w+ (\\S+)\n(.*?)^```$").FindAllStringSubmatch(read(t, "../../README.md"), -1) {
		write(t, filepath.Join(dir, m[1]), m[2])
	}
	return dir
}

// superdaemon is a start_server that runs an example.
type superdaemon struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   string
	ended chan error
}

func begin(t *testing.T, dir string, cmd *exec.Cmd) *superdaemon {
	t.Helper()
	p := &superdaemon{t: t, cmd: cmd, log: filepath.Join(t.TempDir(), "log"), ended: make(chan error, 1)}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return p
}

func (p *superdaemon) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// ask asks for the page.
func (p *superdaemon) ask(url string) {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
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
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s\n%s", wrong, read(p.t, p.log))
		}
	}
}

// end waits until the superdaemon has ended, in order, as its workers had before it.
func (p *superdaemon) end() {
	p.t.Helper()
	select {
	case err := <-p.ended:
		if err != nil || !strings.Contains(read(p.t, p.log), "\nexiting\n") {
			p.t.Errorf("%v\n%s", err, read(p.t, p.log))
		}
	case <-time.After(30 * time.Second):
		p.t.Errorf("%s does not end\n%s", fmt.Sprint(p.cmd), read(p.t, p.log))
	}
}
