//go:build conformance

package conformance

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// original and tested are directories, each with a start_server (the Perl original, and the one
// that is tested) and the other programs that the scripts run.
var original, tested string

var (
	originalFlag = flag.String("original", "/usr/bin/start_server", "the Perl original")
	onlyFlag     = flag.String("only", "*", "run only the scripts and traces that match this pattern")
	tablesFlag   = flag.String("tables", "", "append the tables to this file: go test does not print the log of a test that passes")
	hupsFlag     = flag.Int("hups", 10, "how many HUPs each server gets under load")
	testedFlag   = flag.String("tested", "", "the start_server to test (default: built from this tree)")
)

// publish logs a table and appends it to the file of -tables.
func publish(t *testing.T, table string) {
	t.Log("\n" + table)
	if *tablesFlag == "" {
		return
	}
	f, err := os.OpenFile(*tablesFlag, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		_, err = f.WriteString(table + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// need is a Debian package and a file that shows whether it is installed.
type need struct{ pkg, file string }

var needs = []need{
	{"libserver-starter-perl", "/usr/bin/start_server"},
	{"starlet", "/usr/share/perl5/Starlet/Server.pm"},
	{"starman", "/usr/bin/starman"},
	{"twiggy", "/usr/bin/twiggy"},
	{"uvicorn", "/usr/bin/uvicorn"},
	{"libnet-server-ss-prefork-perl", "/usr/share/perl5/Net/Server/SS/PreFork.pm"},
	{"h2o", "/usr/bin/h2o"},
	{"gunicorn", "/usr/bin/gunicorn"},
	{"ansible-core", "/usr/bin/ansible-playbook"},
	{"python3", "/usr/bin/python3"},
	{"procps", "/usr/bin/ps"},
	{"util-linux", "/usr/bin/flock"},
	{"libplack-perl", "/usr/bin/plackup"}, // the example servers, completion in the shells
	{"nodejs", "/usr/bin/node"},
	{"ruby", "/usr/bin/ruby"},
	{"puma", "/usr/bin/puma"},
	{"unicorn", "/usr/bin/unicorn"},
	{"python3-hypercorn", "/usr/bin/hypercorn"},
	{"daphne", "/usr/bin/daphne"},
	{"nginx", "/usr/sbin/nginx"},
	{"haproxy", "/usr/sbin/haproxy"},
	{"php-fpm", "/usr/sbin/php-fpm*[0-9]"}, // its name has the version of PHP
	{"systemd", "/usr/bin/systemd-notify"},
	{"zsh", "/usr/bin/zsh"},
	{"fish", "/usr/bin/fish"},
}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := checkNeeds(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("/tmp", "same")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), build(dir)) // some scripts run as another user
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// checkNeeds returns an error that lists everything that is missing, and the command that installs
// it.
func checkNeeds() error {
	var missing []string
	for _, n := range needs {
		if found, _ := filepath.Glob(n.file); found == nil {
			missing = append(missing, n.pkg)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("conformance: missing packages: %[1]s\ninstall them: apt-get install -y --no-install-recommends %[1]s",
			strings.Join(missing, " "))
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("conformance: requires root: the tests as PID 1 need unshare(1)")
	}
	return nil
}

func TestCheckNeeds(t *testing.T) {
	defer func(all []need) { needs = all }(needs)
	needs = append([]need{{"no-such-package", "/no/such/file"}, {"nor-this-one", "/no/such/file"}}, needs...)
	want := "conformance: missing packages: no-such-package nor-this-one\n" +
		"install them: apt-get install -y --no-install-recommends no-such-package nor-this-one"
	if err := checkNeeds(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// build installs the programs in dir/original and dir/tested.
func build(dir string) error {
	original, tested = filepath.Join(dir, "original"), filepath.Join(dir, "tested")
	for binDir, program := range map[string]string{original: *originalFlag, tested: *testedFlag} {
		args := []string{"build", "-o", binDir + "/", "../../testdata/worker", "../../testdata/hello", "../../testdata/hangfs"}
		if program == "" {
			args = append(args, "../../cmd/start_server")
		}
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		if program != "" {
			if _, err := os.Stat(program); err != nil {
				return err
			}
			if err := os.Symlink(program, filepath.Join(binDir, "start_server")); err != nil {
				return err
			}
		}
	}
	return nil
}
