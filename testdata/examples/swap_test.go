//go:build linux

package examples

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	swaps       = flag.Int("swaps", 2, "how often each server is swapped")
	clients     = flag.Int("clients", 4, "how many clients of each kind ask at a time")
	startServer = flag.String("start-server", "", "the start_server to use; default: build ./cmd/start_server")
)

// binaries is the directory of start_server and the examples.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "examples")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binaries = dir
	if err := build(".", dir+"/", "./..."); err != nil {
		return 0, err
	}
	if *startServer == "" {
		*startServer = filepath.Join(dir, "start_server")
		if err := build("../..", *startServer, "./cmd/start_server"); err != nil {
			return 0, err
		}
	}
	defer printTable()
	return m.Run(), nil
}

func build(dir, output, packages string) error {
	cmd := exec.Command("go", "build", "-o", output, packages)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", packages, err)
	}
	return nil
}

// superdaemon is a start_server that runs one of the examples.
type superdaemon struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   bytes.Buffer
	files []string // options that name the pid file and the status file
}

// host is an address of the loopback network that only this process uses, so that ports can be
// chosen.
func host() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", pid>>16&0xff|0x40, pid>>8&0xff, pid&0xff)
}

func address(port int) string { return net.JoinHostPort(host(), fmt.Sprint(port)) }

// start runs an example at these ports, or with these options: "8080", "u53", "--steer-udp".
func start(t *testing.T, example string, ports []string, args ...string) *superdaemon {
	t.Helper()
	dir := t.TempDir()
	d := &superdaemon{t: t, files: []string{
		"--pid-file=" + filepath.Join(dir, "pid"), "--status-file=" + filepath.Join(dir, "status"),
	}}
	options := append([]string{"--ready-timeout=30"}, d.files...)
	for _, port := range ports {
		if strings.HasPrefix(port, "--") {
			options = append(options, port)
			continue
		}
		options = append(options, "--port="+host()+":"+port)
	}
	options = append(options, "--", filepath.Join(binaries, example))
	d.cmd = exec.Command(*startServer, append(options, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	d.await(filepath.Join(dir, "status"))
	return d
}

// await returns when the first generation is in the status file.
func (d *superdaemon) await(status string) {
	d.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if content, err := os.ReadFile(status); err == nil && strings.HasPrefix(string(content), "1:") {
			return
		}
	}
	d.t.Fatalf("no generation has started:\n%s", &d.log)
}

// swap returns when the old generation has ended.
func (d *superdaemon) swap() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, *startServer, append([]string{"--restart"}, d.files...)...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("restart: %v\n%s\n%s", err, out, &d.log)
	}
}

func (d *superdaemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(time.Minute, func() { d.cmd.Process.Kill() })
	defer kill.Stop()
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("start_server: %v\n%s", err, &d.log)
	}
}
