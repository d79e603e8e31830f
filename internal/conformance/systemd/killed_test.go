//go:build systemd && linux

package systemd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// override replaces the ExecStart of a unit until the end of the test.
func override(t *testing.T, unit, command string) {
	t.Helper()
	dir := "/etc/systemd/system/" + unit + ".d"
	if err := errors.Join(os.MkdirAll(booted.path(dir), 0o755),
		os.WriteFile(booted.path(dir+"/override.conf"), []byte("[Service]\nExecStart=\nExecStart="+command+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	booted.run(t, "systemctl", "daemon-reload")
	t.Cleanup(func() {
		os.RemoveAll(booted.path(dir))
		booted.try("systemctl", "daemon-reload")
	})
}

// killMain kills the main process of a unit, and waits until systemd has started another one and
// only one worker of it is left.
func killMain(t *testing.T, unit string) {
	t.Helper()
	booted.run(t, "systemctl", "reset-failed", unit) // resets the limit of restarts
	old := property(t, unit, "MainPID")
	booted.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
	eventually(t, "another main process", func() bool {
		pid := property(t, unit, "MainPID")
		return pid != old && pid != "0" && property(t, unit, "ActiveState") == "active"
	})
	eventually(t, "one worker", func() bool { return len(processes()) == 2 })
}

// TestKilledUnderLoad checks that with KillMode=process the workers survive the superdaemon, and
// that the next one takes over from them, even with other options.
func TestKilledUnderLoad(t *testing.T) {
	start(t, "survivor.service")
	end := underLoad(t, app)
	for generation := 2; generation <= 6; generation++ {
		if generation == 4 {
			override(t, "survivor.service", "/usr/local/bin/start_server --interval=1 --port=0.0.0.0:8080 --path=/run/more.sock -- /usr/local/bin/app")
		}
		killMain(t, "survivor.service")
		eventually(t, fmt.Sprint("generation ", generation), func() bool { return get(t, app).generation == generation })
	}
	end()
	if _, err := os.Stat(booted.path("/run/more.sock")); err != nil {
		t.Error("the new options have no effect: ", err)
	}
}

// TestFromPerl changes a unit from Perl's start_server to this one, without a lost request.
func TestFromPerl(t *testing.T) {
	installPerl(t)
	override(t, "survivor.service", "/usr/bin/perl -I/opt/perl /opt/perl/start_server --port=8080 --interval=1 -- /usr/local/bin/app")
	if err := os.WriteFile(booted.path("/etc/systemd/system/survivor.service.d/type.conf"), []byte("[Service]\nType=simple\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	booted.run(t, "systemctl", "daemon-reload")
	start(t, "survivor.service")
	eventually(t, "Perl's worker", func() bool { return len(processes()) == 1 })
	end := underLoad(t, app)
	if err := os.RemoveAll(booted.path("/etc/systemd/system/survivor.service.d")); err != nil {
		t.Fatal(err)
	}
	booted.run(t, "systemctl", "daemon-reload")
	killMain(t, "survivor.service")
	eventually(t, "generation 2", func() bool { return get(t, app).generation == 2 })
	end()
}

// installPerl copies Server::Starter and the modules that it needs into the container. It replaces
// Pod::Usage, and Proc::Wait3, which is compiled, with short versions.
func installPerl(t *testing.T) {
	t.Helper()
	copyIn := func(from, to string) {
		t.Helper()
		if _, err := os.Stat(booted.path("/opt/perl/" + to)); err == nil {
			return
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(booted.path("/opt/perl/"+to)), 0o755), booted.copyIn(from, "/opt/perl/"+to, 0o755)); err != nil {
			t.Skip("libserver-starter-perl is not installed: ", err)
		}
	}
	copyIn("/usr/bin/start_server", "start_server")
	for _, module := range []string{"Server/Starter.pm", "Server/Starter/Guard.pm"} {
		copyIn("/usr/share/perl5/"+module, module)
	}
	for module, text := range map[string]string{
		"Pod/Usage.pm": `package Pod::Usage; use Exporter "import"; our @EXPORT = ("pod2usage"); sub pod2usage { die } 1;`,
		"Proc/Wait3.pm": `package Proc::Wait3; use Exporter "import"; use POSIX ":sys_wait_h"; our @EXPORT = ("wait3");
			sub wait3 { my $pid = waitpid(-1, $_[0] ? 0 : WNOHANG); return $pid > 0 ? ($pid, $?) : () } 1;`,
	} {
		file := filepath.Join(t.TempDir(), filepath.Base(module))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		copyIn(file, module)
	}
	if out, err := booted.try("perl", "-I/opt/perl", "-c", "/opt/perl/start_server"); err != nil {
		t.Skip("Server::Starter does not run in the container: ", out)
	}
}

// TestDescriptorStore checks that systemd keeps the sockets while start_server is stopped, and that
// clients wait.
func TestDescriptorStore(t *testing.T) {
	const unit = "stored.service"
	booted.run(t, "systemctl", "enable", unit) // systemd drops the store of a stopped unit that is not enabled
	t.Cleanup(func() { booted.try("systemctl", "disable", unit) })
	start(t, unit)
	stored := func(want string) {
		t.Helper()
		if got := property(t, unit, "NFileDescriptorStore"); got != want {
			t.Errorf("%s descriptors are stored, want %s", got, want)
		}
	}
	stored("2")
	file := func() string {
		info, err := os.Stat(booted.path("/run/stored.sock"))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime().String()
	}
	before := file()
	killMain(t, unit)
	get(t, app)
	stored("2")

	// A client connects while start_server is stopped.
	booted.run(t, "systemctl", "stop", unit)
	stored("2")
	client := requester("CONFORMANCE_REQUEST=" + app)
	var answer strings.Builder
	client.Stdout, client.Stderr = &answer, &answer
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a connection that waits", func() bool {
		out, err := exec.Command("nsenter", "-t", fmt.Sprint(booted.init), "-n", "cat", "/proc/net/tcp").Output()
		return err == nil && strings.Contains(string(out), ":1F90 ") && strings.Contains(string(out), " 01 ")
	})
	booted.run(t, "systemctl", "start", unit)
	if err := client.Wait(); err != nil {
		t.Errorf("the client got %q: %v", answer.String(), err)
	}
	stored("2")
	if now := file(); now != before {
		t.Errorf("the socket file was made at %s, now %s", before, now)
	}

	// A socket without an option is removed.
	override(t, unit, "/usr/local/bin/start_server --port=8080 --ready-timeout=60 -- /usr/local/bin/app")
	booted.run(t, "systemctl", "restart", unit)
	get(t, app)
	stored("1")
}
