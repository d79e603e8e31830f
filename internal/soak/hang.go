//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangVariable names the environment variable with the directory of the file system that can hang.
const hangVariable = "SOAK_HANG"

// underHangingFileSystem runs this program again, in a mount namespace with a file system that
// hangs while a file "switch" exists (testdata/hangfs): it shows the directory real at mnt. It
// reports whether that was done, and has ended. That takes root and /dev/fuse.
func underHangingFileSystem() (ended bool, err error) {
	if os.Getenv(hangVariable) != "" {
		return false, unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
	}
	device, err := os.Open("/dev/fuse")
	if err != nil || os.Getuid() != 0 {
		return false, nil
	}
	device.Close()
	dir, err := os.MkdirTemp("", "soakhang")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	program := filepath.Join(dir, "hangfs")
	err = errors.Join(err, os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "real"), 0o755), build(program, "./testdata/hangfs"))
	if err != nil {
		return false, err
	}
	args := []string{filepath.Join(dir, "mnt"), filepath.Join(dir, "real"), filepath.Join(dir, "switch"), self}
	cmd := exec.Command(program, append(args, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), hangVariable+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return true, cmd.Run()
}
