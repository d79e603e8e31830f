package sdnotify

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// TestMain runs the tests, or acts as a worker: it changes to the user, sends the notification,
// prints "sent" and runs until its standard input ends.
func TestMain(m *testing.M) {
	if len(os.Args) != 5 || os.Args[1] != "worker" {
		os.Exit(m.Run())
	}
	uid, address, state := os.Args[2], os.Args[3], os.Args[4]
	if err := work(uid, address, state); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func work(uid, address, state string) error {
	id, err := strconv.Atoi(uid)
	if err != nil {
		return err
	}
	if id != os.Getuid() {
		if err := syscall.Setuid(id); err != nil {
			return err
		}
	}
	if state != "" {
		if err := Send(address, state); err != nil {
			return err
		}
	}
	fmt.Println("sent")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// worker starts a worker and returns when it has sent the notification; end ends it.
func worker(t *testing.T, uid int, address, state string) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "worker", strconv.Itoa(uid), address, state)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // otherwise each worker takes a second to end
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
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, end
}

// Users without other processes.
const (
	workerUser = 64001
	otherUser  = 64002
)

func TestTrusted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become other users")
	}
	r := listenT(t)
	pid, _ := worker(t, workerUser, r.Address(), "STATUS=worker")
	trusted := Trusted(pid)
	wantNext(t, r, trusted, Message{Status: "worker", HasStatus: true})

	_, end := worker(t, workerUser, r.Address(), "STATUS=dead, of the worker's user")
	end()
	wantNext(t, r, trusted, Message{Status: "dead, of the worker's user", HasStatus: true})

	_, end = worker(t, otherUser, r.Address(), "STATUS=dead, of another user")
	end()
	worker(t, otherUser, r.Address(), "STATUS=of another user")
	sendT(t, r.Address(), "STATUS=root")
	wantNext(t, r, trusted, Message{Status: "root", HasStatus: true})

	worker(t, otherUser, r.Address(), "STATUS=descendant")
	wantNext(t, r, Trusted(os.Getpid()), Message{Status: "descendant", HasStatus: true})
}

func TestNextReportsTheSender(t *testing.T) {
	r := listenT(t)
	pid, end := worker(t, os.Getuid(), r.Address(), "READY=1")
	end()
	wantNext(t, r, func(gotPID, gotUID int) bool {
		if gotPID != pid || gotUID != os.Getuid() {
			t.Errorf("sent by process %d of user %d; want %d, %d", gotPID, gotUID, pid, os.Getuid())
		}
		return true
	}, Message{Ready: true})
}

func TestDescends(t *testing.T) {
	child, _ := worker(t, os.Getuid(), "", "")
	for _, test := range []struct {
		pid, ancestor int
		want          bool
	}{
		{child, os.Getpid(), true}, {child, os.Getppid(), true}, {child, child, true}, {os.Getpid(), child, false},
		{child, 1 << 30, false}, {1 << 30, os.Getpid(), false}, {0, os.Getpid(), false}, {0, 0, false},
	} {
		if got := descends(test.pid, test.ancestor); got != test.want {
			t.Errorf("descends(%d, %d) = %v, want %v", test.pid, test.ancestor, got, test.want)
		}
	}
}

func TestRunsAs(t *testing.T) {
	if !runsAs(os.Getpid(), os.Getuid()) || runsAs(os.Getpid(), otherUser) || runsAs(1<<30, 0) {
		t.Error("runsAs does not distinguish users")
	}
}
