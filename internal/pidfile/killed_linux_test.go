package pidfile

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const killedVariable = "PIDFILE_TEST_KILLED"

// TestCreateAfterKill starts again as soon as the process that holds the lock was killed. Its end
// takes longer than the attempts of a start, as the kernel has a gigabyte in small pages to free
// first.
func TestCreateAfterKill(t *testing.T) {
	if path := os.Getenv(killedVariable); path != "" {
		holdWithMemory(t, path)
	}
	path := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(os.Args[0], "-test.run=^TestCreateAfterKill$")
	cmd.Env = append(os.Environ(), killedVariable+"="+path)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, os.Getpid())
	if err != nil {
		t.Error(err)
	} else if err := f.Remove(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
}

// holdWithMemory locks the pid file, uses a lot of memory, reports that on standard output and
// waits.
func holdWithMemory(t *testing.T, path string) {
	create(t, path, os.Getpid())
	memory, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Madvise(memory, unix.MADV_NOHUGEPAGE)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	os.Stdout.WriteString("ready\n")
	select {}
}
