//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// TestAnsible deploys with the playbook of the examples to three superdaemons, which stand for three
// machines, under load: a good release reaches all of them, and one that does not start is refused
// by the first and never gets to the others.
func TestAnsible(t *testing.T) {
	t.Parallel()
	control := t.TempDir()
	playbook, err := os.ReadFile("../../testdata/examples/ansible/deploy.yml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, control+"/deploy.yml", string(playbook), 0o644)
	for release, script := range map[string]string{"1": "exec hello", "2": "exec hello", "3": "echo no database >&2; exit 3"} {
		write(t, control+"/releases/"+release+"/app", "#!/bin/sh\n"+script+"\n", 0o755)
	}

	var inventory strings.Builder
	var machines []*superdaemon
	ctx, stop := context.WithCancel(t.Context())
	results := make(chan load.Result)
	for i := range 3 {
		d := newSuperdaemon(t, tested, t.TempDir())
		write(t, d.file("releases/1/app"), "#!/bin/sh\nexec hello\n", 0o755)
		if err := os.Symlink("releases/1", d.file("current")); err != nil {
			t.Fatal(err)
		}
		d.start("--path=app.sock", "--dir=current", "--ready-timeout=30", "--max-attempts=2", "--", "./app")
		d.waitStatus(`^1:\d+\n$`)
		fmt.Fprintf(&inventory, "machine%d ansible_connection=local app=%s\n", i+1, d.dir)
		machines = append(machines, d)
		target := load.Target{Network: "unix", Address: d.file("app.sock"), Pause: 5 * time.Millisecond}
		go func() { results <- load.Run(ctx, target, clients, false) }()
	}
	write(t, control+"/inventory.ini", "[app]\n"+inventory.String(), 0o644)

	play := func(release string) (string, error) {
		cmd := machines[0].command("ansible-playbook", "-i", "inventory.ini", "deploy.yml", "-e", "release="+release)
		cmd.Dir = control
		cmd.Env = append(cmd.Env, "HOME="+control, "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	want := func(release string, generations ...string) {
		t.Helper()
		for i, d := range machines {
			link, _ := os.Readlink(d.file("current"))
			if status := d.read("status"); link != "releases/"+release || !strings.HasPrefix(status, generations[i]+":") {
				t.Errorf("machine %d: %s, status %q", i+1, link, status)
			}
		}
	}
	if out, err := play("2"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want("2", "2", "2", "2")
	out, err := play("3")
	if err == nil || !strings.Contains(out, "machine1 keeps releases/2: start_server: the restart was given up") || strings.Contains(out, "machine2") {
		t.Errorf("%v\n%s", err, out)
	}
	want("2", "2", "2", "2")
	if !strings.Contains(machines[0].read("log"), "no database") {
		t.Error("the first machine did not try the release")
	}
	for _, d := range machines[1:] {
		if _, err := os.Stat(d.file("releases/3")); err == nil {
			t.Errorf("the release has reached %s", d.dir)
		}
	}

	stop()
	var total load.Result
	for range machines {
		total.Add(<-results)
	}
	if total.Lost > 0 || total.Sent == 0 {
		t.Errorf("lost %d of %d: %v", total.Lost, total.Sent, total.Errors)
	}
	t.Logf("%d requests, %d lost", total.Sent, total.Lost)
	for _, d := range machines {
		d.stop()
	}
}

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
