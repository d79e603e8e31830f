//go:build conformance

package conformance

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMixedVersions uses --restart and --stop of one start_server with the superdaemon of the
// other, as during a migration.
func TestMixedVersions(t *testing.T) {
	for _, mix := range []struct{ name, superdaemon, commands string }{
		{"--restart and --stop of the original", tested, original},
		{"--restart and --stop with a superdaemon of the original", original, tested},
	} {
		t.Run(mix.name, func(t *testing.T) {
			t.Parallel()
			d := newSuperdaemon(t, mix.superdaemon, t.TempDir())
			d.start("--path=app.sock", "--", "worker", "--linger=leave")
			d.waitStatus(`\A1:\d+\n\z`)

			restart := d.command(mix.commands+"/start_server", "--restart", "--pid-file=pid", "--status-file=status")
			exited := start(t, restart)
			d.waitStatus(`\A1:\d+\n2:\d+\n\z`)
			select {
			case <-exited:
				t.Error("--restart returned before the old worker had ended")
			case <-time.After(1500 * time.Millisecond): // it checks once a second
			}
			run(t, d.command("touch", "leave"))
			waitSuccess(t, exited, restart)
			d.waitStatus(`\A2:\d+\n\z`)

			run(t, d.command(mix.commands+"/start_server", "--stop", "--pid-file=pid"))
			d.waitExit()
			if left := d.read("pid") + d.read("status"); left != "" {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestShowOriginal shows a superdaemon of the original, which has only its files.
func TestShowOriginal(t *testing.T) {
	t.Parallel()
	d := newSuperdaemon(t, original, t.TempDir())
	d.start("--path=app.sock", "--", "worker", "--linger=leave")
	d.waitStatus(`\A1:\d+\n\z`)
	d.signal("HUP")
	d.waitStatus(`\A1:\d+\n2:\d+\n\z`)
	show := d.command(tested+"/start_server", "--show", "--pid-file=pid", "--status-file=status")
	show.Stdout = nil
	out, err := show.Output()
	want := regexp.MustCompile(`(?m)\Astart_server \(pid \d+\), up \d+ s: serving$(?s:.*)^1 +\d+ +old +\d+ s\n2 +\d+ +serving +\d+ s$`)
	if err != nil || !want.Match(out) {
		t.Errorf("%v, %s does not match %s", err, out, want)
	}
	if out, err := d.command(tested+"/start_server", "--show", "--pid-file=pid").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "with --status-file, --show lists its workers") {
		t.Errorf("without the status file: %v, %s", err, out)
	}
	run(t, d.command("touch", "leave"))
	d.stop()
}

// TestMigration replaces one superdaemon with the other, which gets the same unix path, pid file
// and status file. After a KILL the tested one takes over the socket from the worker that is left,
// and the original makes a new one.
func TestMigration(t *testing.T) {
	for _, m := range []struct{ name, before, after, signal string }{
		{"from the original, which is stopped", original, tested, "TERM"},
		{"to the original, after a stop", tested, original, "TERM"},
		{"from the original, which is killed", original, tested, "KILL"},
		{"to the original, after a kill", tested, original, "KILL"},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			before := newSuperdaemon(t, m.before, dir)
			before.start("--path=app.sock", "--", "worker")
			before.waitStatus(`\A1:\d+\n\z`)
			before.signal(m.signal)
			<-before.exited

			takenOver := m.signal == "KILL" && m.after == tested
			generation := 1
			if takenOver {
				generation = 2
			}
			after := newSuperdaemon(t, m.after, dir)
			after.start("--path=app.sock", "--", "worker", "--report=report")
			after.waitMatch(fmt.Sprintf("report/%d.env", generation), "SERVER_STARTER_PORT=app.sock=")
			after.waitStatus(fmt.Sprintf(`\A%d:\d+\n\z`, generation))
			if got, want := after.read("pid"), fmt.Sprintln(after.cmd.Process.Pid); got != want {
				t.Errorf("pid file: %q, want %q", got, want)
			}
			log := after.read("log")
			if got := strings.Contains(log, "taking over socket app.sock"); got != takenOver {
				t.Errorf("socket taken over: %v, want %v; log:\n%s", got, takenOver, log)
			}
			removed := m.signal == "KILL" && !takenOver
			if got := strings.Contains(log, "removing existing socket file:app.sock"); got != removed {
				t.Errorf("socket file removed: %v, want %v; log:\n%s", got, removed, log)
			}
			after.signal("HUP")
			after.waitStatus(fmt.Sprintf(`\A%d:\d+\n\z`, generation+1))
			after.stop()
		})
	}
}

// TestPID1 runs start_server as PID 1 of a namespace, as in a container, with orphans that exit and
// one that keeps running.
func TestPID1(t *testing.T) {
	d := newSuperdaemon(t, tested, t.TempDir())
	d.run("unshare", "--pid", "--fork", "--mount-proc", d.binDir+"/start_server", "--path=app.sock",
		"--pid-file=pid", "--status-file=status", "--", "sh", "-c",
		`(sleep 1000 &); (sh -c "exit 3" &); (sh -c "until [ -e go ]; do sleep 0.01; done" &); exec worker`)
	d.waitStatus(`\A1:\d+\n\z`)
	if got := d.read("pid"); got != "1\n" {
		t.Fatalf("pid %q, want 1", got)
	}
	first := child(t, d.cmd.Process.Pid)
	for n := 2; n <= 4; n++ {
		unix.Kill(first, unix.SIGHUP)
		d.waitStatus(fmt.Sprintf(`\A%d:\d+\n\z`, n))
	}
	run(t, d.command("touch", "go"))
	d.until(func() bool { return zombies(t, first) == 0 }, "no zombies")
	unix.Kill(first, unix.SIGTERM)
	d.waitExit()
	log := d.read("log")
	if strings.Count(log, " died, status:0\n") != 4 || strings.Count(log, " died") != 4 { // four workers, no orphan
		t.Errorf("log:\n%s", log)
	}
}

// child returns the only child of a process.
func child(t *testing.T, pid int) (child int) {
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", fmt.Sprint(pid)).Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &child)
	}
	if err != nil {
		t.Fatal(err)
	}
	return child
}

func zombies(t *testing.T, parent int) int {
	out, err := exec.Command("ps", "-o", "stat=", "--ppid", fmt.Sprint(parent)).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count("\n"+string(out), "\nZ")
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	waitSuccess(t, start(t, cmd), cmd)
}

// start starts a command and returns a channel that is closed when it has exited.
func start(t *testing.T, cmd *exec.Cmd) <-chan struct{} {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() { cmd.Process.Kill() })
	return exited
}

func waitSuccess(t *testing.T, exited <-chan struct{}, cmd *exec.Cmd) {
	t.Helper()
	select {
	case <-exited:
		if !cmd.ProcessState.Success() {
			t.Errorf("%s: %v", cmd, cmd.ProcessState)
		}
	case <-time.After(timeout):
		t.Errorf("%s does not exit", cmd)
	}
}
