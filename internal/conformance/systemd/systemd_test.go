//go:build systemd && linux

package systemd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// booted is the container that all tests use.
var booted *container

// Pdeathsig refers to the thread that starts the process: it must live as long as this process.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if url := os.Getenv("CONFORMANCE_REQUEST"); url != "" {
		fatal(request(url))
		return
	}
	root := rootDir()
	fatal(missing(root))
	fatal(install(root))
	binaries, err := build()
	fatal(err)
	booted, err = boot(root)
	if err == nil {
		err = installFiles(booted, binaries)
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	if booted != nil {
		booted.halt()
	}
	os.RemoveAll(binaries)
	fatal(err)
	os.Exit(code)
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "conformance-systemd: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nconformance-systemd: "))
		os.Exit(1)
	}
}

// build builds the two programs in a new directory.
func build() (string, error) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return "", err
	}
	const module = "github.com/start-server/start-server/"
	packages := map[string]string{"app": module + "internal/conformance/systemd/worker"}
	if binary := os.Getenv("START_SERVER"); binary != "" {
		err = os.Symlink(binary, filepath.Join(dir, "start_server"))
	} else {
		packages["start_server"] = module + "cmd/start_server"
	}
	for name, pkg := range packages {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // the container lacks the libraries of this machine
		if out, failed := cmd.CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("go build %s: %w\n%s", pkg, failed, out))
		}
	}
	return dir, err
}

// installFiles copies the programs and the unit files into the container.
func installFiles(c *container, binaries string) error {
	for _, name := range []string{"start_server", "app"} {
		if err := c.copyIn(filepath.Join(binaries, name), "/usr/local/bin/"+name, 0o755); err != nil {
			return err
		}
	}
	units, err := filepath.Glob("testdata/*.*")
	for _, unit := range units {
		err = errors.Join(err, c.copyIn(unit, "/etc/systemd/system/"+filepath.Base(unit), 0o644))
	}
	if out, failed := c.try("systemctl", "daemon-reload"); failed != nil {
		err = errors.Join(err, fmt.Errorf("systemctl daemon-reload: %w\n%s", failed, out))
	}
	return err
}

// request runs in the container's network. It sends one request and prints the answer or, with
// CONFORMANCE_CLIENTS, sends requests from that number of clients.
func request(address string) error {
	if clients := os.Getenv("CONFORMANCE_CLIENTS"); clients != "" {
		n, err := strconv.Atoi(clients)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(requests(address, n))
	}
	client := http.Client{Timeout: patience}
	response, err := client.Get("http://" + address + "/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

// requests sends requests from a number of clients, half of them on kept connections, until
// standard input ends. It prints an empty line after the first answer.
func requests(address string, clients int) load.Result {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { io.Copy(io.Discard, os.Stdin); cancel() }()
	var answered sync.Once
	target := load.Target{Network: "tcp", Address: address, Pause: time.Millisecond}
	target.Check = func(r *http.Response, body []byte) error {
		answered.Do(func() { fmt.Println() })
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	}
	kept := make(chan load.Result)
	go func() { kept <- load.Run(ctx, target, clients/2, true) }()
	result := load.Run(ctx, target, clients-clients/2, false)
	result.Add(<-kept)
	return result
}

// requester returns a command that runs the test binary in the network namespace of the container,
// and in the other namespaces of this process.
func requester(env ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(booted.init), "-n", os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// answer is the response of the application, which describes it.
type answer struct{ generation, pid, uid int }

func get(t *testing.T, address string) (a answer) {
	t.Helper()
	out, err := requester("CONFORMANCE_REQUEST=" + address).CombinedOutput()
	if err != nil {
		t.Fatalf("GET http://%s/: %v: %s\n%s", address, err, out, booted.run(t, "journalctl", "--no-pager", "-n", "30"))
	}
	if _, err := fmt.Sscan(string(out), &a.generation, &a.pid, &a.uid); err != nil {
		t.Fatalf("GET http://%s/: %q: %v", address, out, err)
	}
	return a
}

// underLoad sends requests from 16 clients until the returned function is called, which fails the
// test if one was lost.
func underLoad(t *testing.T, address string) (end func()) {
	t.Helper()
	cmd := requester("CONFORMANCE_REQUEST="+address, "CONFORMANCE_CLIENTS=16")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	out.ReadString('\n') // if it fails, so does reading the result
	return func() {
		t.Helper()
		stdin.Close()
		var result load.Result
		if err := errors.Join(json.NewDecoder(out).Decode(&result), cmd.Wait()); err != nil {
			t.Fatalf("load: %v", err)
		}
		t.Logf("answered %d, lost %d, slowest %v", result.Answered, result.Lost, result.Slowest)
		if result.Lost > 0 || result.Answered == 0 {
			t.Errorf("answered %d, lost %d: %v", result.Answered, result.Lost, result.Errors)
		}
	}
}

// start starts units, and stops them at the end of the test.
func start(t *testing.T, units ...string) {
	t.Helper()
	t.Cleanup(func() { stop(t, units...) })
	booted.run(t, append([]string{"systemctl", "start"}, units...)...)
}

// stop stops units and checks that no process is left.
func stop(t *testing.T, units ...string) {
	t.Helper()
	booted.run(t, append([]string{"systemctl", "stop"}, units...)...)
	for _, unit := range units {
		if state := property(t, unit, "ActiveState"); state != "inactive" {
			t.Errorf("%s after systemctl stop: %s", unit, state)
		}
		if result := property(t, unit, "Result"); result != "success" {
			t.Errorf("%s after systemctl stop: %s", unit, result)
		}
	}
	if left := processes(); len(left) > 0 {
		t.Errorf("left after systemctl stop: %v", left)
	}
	booted.try(append([]string{"systemctl", "reset-failed"}, units...)...) // resets NRestarts; fails if there is nothing to reset
}

// processes returns the command lines of start_server and app in the container by pid.
func processes() map[string]string {
	found := make(map[string]string)
	want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", booted.init))
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range links {
		if space, err := os.Readlink(link); err != nil || space != want {
			continue
		}
		pid := strings.Split(link, "/")[2]
		line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if strings.HasPrefix(string(line), "/usr/local/bin/") {
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

func property(t *testing.T, unit, name string) string {
	t.Helper()
	return booted.run(t, "systemctl", "show", "-P", name, unit)
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s\n%s", patience, what, booted.run(t, "journalctl", "--no-pager", "-n", "30"))
		}
	}
}

// gate keeps workers from becoming ready until the returned function is called.
func gate(t *testing.T) (open func()) {
	t.Helper()
	if err := os.WriteFile(booted.path("/run/gate"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	open = func() { os.Remove(booted.path("/run/gate")) }
	t.Cleanup(open)
	return open
}

const (
	app     = "127.0.0.1:8080"
	dynamic = "127.0.0.1:80"
)

func TestStartReturnsWhenReady(t *testing.T) {
	open := gate(t)
	t.Cleanup(func() { stop(t, "app.service") })
	cmd := booted.command("systemctl", "start", "app.service")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a worker", func() bool { return len(processes()) == 2 })
	if state := property(t, "app.service", "ActiveState"); state != "activating" {
		t.Errorf("while the first worker is not ready: %s", state)
	}
	open()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("systemctl start: %v", err)
	}
	if a := get(t, app); a.generation != 1 {
		t.Errorf("answered by generation %d", a.generation)
	}
	if text := property(t, "app.service", "StatusText"); text == "" {
		t.Error("no StatusText")
	}
}

// TestAcceptTimeout starts and reloads an unchanged Starlet whose application takes long to load:
// both return when it serves.
func TestAcceptTimeout(t *testing.T) {
	open := gate(t)
	t.Cleanup(func() { stop(t, "starlet.service") })
	systemctl := func(verb, status, state string, meanwhile func()) {
		t.Helper()
		cmd := booted.command("systemctl", verb, "starlet.service")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, status, func() bool { return strings.Contains(property(t, "starlet.service", "StatusText"), status) })
		if now := property(t, "starlet.service", "ActiveState"); now != state {
			t.Errorf("while Starlet loads: %s, want %s", now, state)
		}
		meanwhile()
		open()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("systemctl %s: %v", verb, err)
		}
	}
	systemctl("start", "is starting, does not accept connections on 8080", "activating", func() {})
	if a := get(t, app); a.generation != 1 {
		t.Errorf("answered by generation %d", a.generation)
	}
	end := underLoad(t, app)
	open = gate(t)
	systemctl("reload", ") is starting, does not accept connections on 8080", "reloading", func() {
		if a := get(t, app); a.generation != 1 {
			t.Errorf("while generation 2 loads, answered by generation %d", a.generation)
		}
	})
	end()
	if a := get(t, app); a.generation != 2 {
		t.Errorf("after the reload, answered by generation %d", a.generation)
	}
}

func TestReloadUnderLoad(t *testing.T) {
	start(t, "app.service")
	end := underLoad(t, app)
	pid := property(t, "app.service", "MainPID")
	for generation := 2; generation <= 6; generation++ {
		booted.run(t, "systemctl", "reload", "app.service")
		if a := get(t, app); a.generation != generation {
			t.Errorf("after reload %d: answered by generation %d", generation-1, a.generation)
		}
	}
	end()
	if now := property(t, "app.service", "MainPID"); now != pid {
		t.Errorf("MainPID was %s, is %s", pid, now)
	}
}

// TestReloadBefore253 reloads as before systemd 253, which has Type=notify-reload: by a command
// that returns when the old worker has ended.
func TestReloadBefore253(t *testing.T) {
	start(t, "notify.service")
	end := underLoad(t, app)
	for generation := 2; generation <= 3; generation++ {
		booted.run(t, "systemctl", "reload", "notify.service")
		if a := get(t, app); a.generation != generation {
			t.Errorf("after reload %d: answered by generation %d", generation-1, a.generation)
		}
	}
	end()
	stop(t, "notify.service")
	if left, _ := filepath.Glob(booted.path("/run/app/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReloadFails checks that the command which deploys makes a reload fail if the new version does.
func TestReloadFails(t *testing.T) {
	start(t, "notify.service")
	program := booted.path("/usr/local/bin/app")
	if err := os.Rename(program, program+".good"); err != nil {
		t.Fatal(err)
	}
	defer os.Rename(program+".good", program)
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if booted.command("systemctl", "reload", "notify.service").Run() == nil {
		t.Error("the reload has succeeded")
	}
	if a := get(t, app); a.generation != 1 {
		t.Errorf("answered by generation %d", a.generation)
	}
	if state := property(t, "notify.service", "ActiveState"); state != "active" {
		t.Errorf("after the reload: %s", state)
	}
}

func TestReloadReturnsWhenReady(t *testing.T) {
	start(t, "app.service")
	end := underLoad(t, app)
	open := gate(t)
	cmd := booted.command("systemctl", "reload", "app.service")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a second worker", func() bool { return len(processes()) == 3 })
	if state := property(t, "app.service", "ActiveState"); state != "reloading" {
		t.Errorf("while the new worker is not ready: %s", state)
	}
	if a := get(t, app); a.generation != 1 {
		t.Errorf("while the new worker is not ready: answered by generation %d", a.generation)
	}
	open()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("systemctl reload: %v", err)
	}
	if a := get(t, app); a.generation != 2 {
		t.Errorf("after the reload: answered by generation %d", a.generation)
	}
	end()
}

func TestSocketUnit(t *testing.T) {
	start(t, "app.socket")
	t.Cleanup(func() { booted.run(t, "systemctl", "stop", "app.socket", "app.service") })
	if state := property(t, "app.service", "ActiveState"); state != "inactive" {
		t.Errorf("before the first connection: %s", state)
	}
	first := get(t, app)
	end := underLoad(t, app)
	booted.run(t, "systemctl", "reload", "app.service")
	// A stop signals all workers, and a second TERM makes a worker stop at once: wait for the old
	// one, which may answer a request until then.
	eventually(t, "the old worker is gone", func() bool { return len(processes()) == 2 })
	if a := get(t, app); a.generation != 2 {
		t.Errorf("after a reload: answered by generation %d", a.generation)
	}
	booted.run(t, "systemctl", "restart", "app.service") // stop and start: connections wait in the socket
	if a := get(t, app); a.generation != 1 || a.pid == first.pid {
		t.Errorf("after a restart: answered by generation %d", a.generation)
	}
	end()
	stop(t, "app.service")
	if state := property(t, "app.socket", "ActiveState"); state != "active" {
		t.Errorf("the socket after the service was stopped: %s", state)
	}
	if a := get(t, app); a.generation != 1 {
		t.Errorf("after a stop: answered by generation %d", a.generation)
	}
}

func TestDynamicUser(t *testing.T) {
	start(t, "dynamic.service")
	if a := get(t, dynamic); a.generation != 1 || a.uid < 61184 || a.uid > 65519 { // systemd.exec(5), DynamicUser=
		t.Errorf("answered by generation %d of user %d", a.generation, a.uid)
	}
	end := underLoad(t, dynamic)
	booted.run(t, "systemctl", "reload", "dynamic.service")
	end()
	if a := get(t, dynamic); a.generation != 2 {
		t.Errorf("after a reload: answered by generation %d", a.generation)
	}
	text, err := os.ReadFile(booted.path("/run/dynamic/pid"))
	if pid := property(t, "dynamic.service", "MainPID"); err != nil || strings.TrimSpace(string(text)) != pid {
		t.Errorf("pid file: %q, %v; MainPID is %s", text, err, pid)
	}
	stop(t, "dynamic.service")
	if left, _ := filepath.Glob(booted.path("/run/dynamic/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAlone checks --stop-first, --stop-delay and --user: a reload loses no request, and a stop is
// announced before workers stop serving.
func TestAlone(t *testing.T) {
	start(t, "alone.service")
	end := underLoad(t, app)
	for generation := 2; generation <= 4; generation++ {
		booted.run(t, "systemctl", "reload", "alone.service")
		if a := get(t, app); a.generation != generation || a.uid != 1 {
			t.Errorf("after reload %d: answered by generation %d of user %d", generation-1, a.generation, a.uid)
		}
		if n := len(processes()); n != 2 {
			t.Errorf("after reload %d: %d processes: %v", generation-1, n, processes())
		}
	}
	end()
	began := time.Now()
	booted.run(t, "systemctl", "stop", "--no-block", "alone.service")
	eventually(t, "the stop", func() bool { return property(t, "alone.service", "ActiveState") == "deactivating" })
	if a := get(t, app); a.generation != 4 {
		t.Errorf("during the delay: answered by generation %d", a.generation)
	}
	stop(t, "alone.service")
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("stopped after %v", took)
	}
}

func TestWatchdog(t *testing.T) {
	dir := booted.path("/run/systemd/system/dynamic.service.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "watchdog.conf"), []byte("[Service]\nWatchdogSec=400ms\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir); booted.run(t, "systemctl", "daemon-reload") })
	booted.run(t, "systemctl", "daemon-reload")
	start(t, "dynamic.service")
	for range 4 {
		last := property(t, "dynamic.service", "WatchdogTimestampMonotonic")
		eventually(t, "another WATCHDOG=1", func() bool { return property(t, "dynamic.service", "WatchdogTimestampMonotonic") != last })
	}
	if n := property(t, "dynamic.service", "NRestarts"); n != "0" {
		t.Errorf("restarted %s times while the watchdog was notified", n)
	}
	booted.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", "dynamic.service")
	eventually(t, "a restart by the watchdog", func() bool { return property(t, "dynamic.service", "NRestarts") == "1" })
	eventually(t, "active again", func() bool { return property(t, "dynamic.service", "ActiveState") == "active" })
	get(t, dynamic)
}

func TestRestartAfterKill(t *testing.T) {
	start(t, "app.service")
	before := property(t, "app.service", "MainPID")
	old := processes()
	booted.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "app.service")
	eventually(t, "a restart", func() bool { return property(t, "app.service", "NRestarts") == "1" })
	eventually(t, "active again", func() bool { return property(t, "app.service", "ActiveState") == "active" })
	if now := property(t, "app.service", "MainPID"); now == before {
		t.Errorf("MainPID is still %s", now)
	}
	if a := get(t, app); a.generation != 1 {
		t.Errorf("answered by generation %d", a.generation)
	}
	for pid := range processes() {
		if old[pid] != "" {
			t.Errorf("left of the killed superdaemon: %s %s", pid, old[pid])
		}
	}
}

func TestUpgradeKeepsMainPID(t *testing.T) {
	start(t, "app.service")
	end := underLoad(t, app)
	pid := property(t, "app.service", "MainPID")
	worker := get(t, app)
	if err := booted.copyIn(booted.path("/usr/local/bin/start_server"), "/usr/local/bin/start_server", 0o755); err != nil {
		t.Fatal(err)
	}
	upgraded, err := os.Stat(booted.path("/usr/local/bin/start_server"))
	if err != nil {
		t.Fatal(err)
	}
	inode := strconv.FormatUint(upgraded.Sys().(*syscall.Stat_t).Ino, 10)
	booted.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=USR2", "app.service")
	eventually(t, "the new binary runs", func() bool {
		now, err := booted.try("stat", "-Lc", "%i", "/proc/"+pid+"/exe") // fails in the middle of the exec
		return err == nil && now == inode
	})
	if now := property(t, "app.service", "MainPID"); now != pid {
		t.Errorf("MainPID was %s, is %s", pid, now)
	}
	if a := get(t, app); a != worker {
		t.Errorf("the worker was %v, is %v", worker, a)
	}
	booted.run(t, "systemctl", "reload", "app.service")
	if a := get(t, app); a.generation != 2 {
		t.Errorf("after a reload: answered by generation %d", a.generation)
	}
	end()
	if n := property(t, "app.service", "NRestarts"); n != "0" {
		t.Errorf("restarted %s times", n)
	}
}
