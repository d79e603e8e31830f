package process

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestDescriptorsNeeded is not parallel: it limits the descriptors of the test process.
func TestDescriptorsNeeded(t *testing.T) {
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	for _, number := range []int{100, 200} { // of /dev/null in the child
		files := []uintptr{0, 1, 2}
		for len(files) <= number {
			files = append(files, Closed)
		}
		files[number] = uintptr(null)
		if err := forkExecWithin(t, files, DescriptorsNeeded(files)); err != nil {
			t.Errorf("/dev/null at %d: %v", number, err)
		}
		if err := forkExecWithin(t, files, number+1); err == nil {
			t.Errorf("/dev/null at %d: a limit of %d is enough", number, number+1)
		}
	}
}

// forkExecWithin runs true(1) under a limit of descriptors.
func forkExecWithin(t *testing.T, files []uintptr, limit int) error {
	t.Helper()
	var before, within unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	within = before
	raise(&within.Cur, before.Max, limit)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &within); err != nil {
		t.Fatal(err)
	}
	pid, err := Spec{Args: []string{"true"}, Files: files}.forkExec("/bin/true", []string{"true"})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		exitStatus(t, pid)
	}
	return err
}
