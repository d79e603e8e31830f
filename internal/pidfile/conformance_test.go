//go:build conformance

package pidfile

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// perl starts a script with path as its argument and waits until it prints a line. The script ends
// when its standard input does.
func perl(t *testing.T, script, path string) (cmd *exec.Cmd, end func() error) {
	t.Helper()
	cmd = exec.Command("perl", "-MFcntl=:flock", "-e", "$| = 1; "+script, path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd, func() error { return errors.Join(in.Close(), cmd.Wait()) }
}

// TestPerlSuperdaemon has Perl hold the pid file as Server::Starter 0.35 does.
func TestPerlSuperdaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	cmd, end := perl(t, `open my $fh, '>', $ARGV[0] or die $!; flock($fh, LOCK_EX) or die $!; print $fh "$$\n"; $fh->flush;
		print "ready\n"; <STDIN>; unlink $ARGV[0]; close $fh`, path)
	p, err := Holder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.PID != cmd.Process.Pid {
		t.Errorf("PID = %d, want %d", p.PID, cmd.Process.Pid)
	}
	var locked *LockedError
	if _, err := Create(path, 1); !errors.As(err, &locked) || locked.PID != cmd.Process.Pid {
		t.Errorf("Create: %v", err)
	}
	wantContent(t, path, strconv.Itoa(cmd.Process.Pid)+"\n")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestPerlStop has Perl wait for the removal of a pid file as --stop of Server::Starter 0.35 does.
func TestPerlStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	f := create(t, path, os.Getpid())
	_, end := perl(t, `open my $fh, '+<', $ARGV[0] or die $!; chomp(my $pid = <$fh>); $pid == getppid or die $pid;
		flock($fh, LOCK_EX|LOCK_NB) and die 'not locked'; print "waiting\n"; flock($fh, LOCK_EX) or die $!; -e $ARGV[0] and die 'still there'`, path)
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}
