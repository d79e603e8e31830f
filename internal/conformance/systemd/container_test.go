//go:build systemd && linux

package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for a condition.
const patience = 20 * time.Second

// missing returns an error that lists everything this machine lacks, and how to get it.
func missing(root string) error {
	var all []error
	if os.Getuid() != 0 {
		all = append(all, fmt.Errorf("uid %d: booting systemd requires root: use sudo, and keep PATH for the go command", os.Getuid()))
	}
	packages := [][2]string{{"systemd-nspawn", "systemd-container"}, {"nsenter", "util-linux"}, {"go", "golang"}}
	if _, err := os.Stat(root); err != nil {
		packages = append(packages, [2]string{"debootstrap", "debootstrap"})
	}
	for _, p := range packages {
		if _, err := exec.LookPath(p[0]); err != nil {
			all = append(all, fmt.Errorf("%s: not found: apt-get install %s", p[0], p[1]))
		}
	}
	return errors.Join(all...)
}

// rootDir returns the directory in which the container's system is kept between runs.
func rootDir() string {
	cache := os.Getenv("CONFORMANCE_CACHE")
	if cache == "" {
		cache = filepath.Join(cacheHome(), "start_server-conformance")
	}
	return filepath.Join(cache, "trixie-starlet")
}

func cacheHome() string {
	if home := os.Getenv("XDG_CACHE_HOME"); home != "" {
		return home
	}
	return "/var/tmp"
}

// install installs the container's system in root, unless root exists. It renames it to root when
// it is complete.
func install(root string) error {
	if _, err := os.Stat(root); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(root), "partial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(partial)
	fmt.Fprintln(os.Stderr, "installing Debian trixie in", root)
	out, err := exec.Command("debootstrap", "--variant=minbase", "--include=systemd,dbus,systemd-sysv,starlet", "trixie",
		filepath.Join(partial, "root"), "http://deb.debian.org/debian").CombinedOutput()
	if err != nil {
		return fmt.Errorf("debootstrap: %w\n%s", err, out[max(0, len(out)-1000):])
	}
	err = os.Rename(filepath.Join(partial, "root"), root)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return nil // another run was faster
	}
	return err
}

// container is a booted systemd.
type container struct {
	nspawn *exec.Cmd
	cgroup string // used by this run only
	init   int    // its process 1, by the pid in the namespace of this process
}

// boot boots the system in root. It does not change root: writes go to an overlay, which is
// discarded.
func boot(root string) (*container, error) {
	cgroup, err := makeCgroup()
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	c := &container{cgroup: cgroup}
	c.nspawn = exec.Command("systemd-nspawn", "-q", "-D", root, "--read-only", "--volatile=overlay", "--boot", "--register=no",
		"--keep-unit", "--private-network", "--system-call-filter=pidfd_getfd", "--console=pipe", "--machine=conformance-"+strconv.Itoa(os.Getpid()))
	c.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	c.nspawn.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	var console bytes.Buffer
	c.nspawn.Stdout, c.nspawn.Stderr = &console, &console
	if err := c.nspawn.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("systemd-nspawn: %w", err), os.Remove(cgroup))
	}
	if err := c.up(); err != nil {
		c.halt()
		return nil, fmt.Errorf("boot %s: %w\n%s", root, err, &console)
	}
	return c, nil
}

// makeCgroup makes a control group in that of this process.
func makeCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if fields[2] != "cgroup2" {
			continue
		}
		for entry := range strings.Lines(string(own)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(entry), "0::"); ok {
				return os.MkdirTemp(filepath.Join(fields[1], path), "start_server-conformance-")
			}
		}
	}
	return "", errors.New("no cgroup2 file system is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
}

// up waits until the container has booted.
func (c *container) up() error {
	var state string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c.init == 0 {
			c.init = c.findInit()
			continue
		}
		state, _ = c.try("systemctl", "is-system-running") // its output is enough
		if state == "running" {
			return nil
		}
		if state == "degraded" {
			failed, err := c.try("systemctl", "--failed", "--no-legend", "--plain")
			return errors.Join(fmt.Errorf("failed units: %s", failed), err)
		}
	}
	return fmt.Errorf("not running after %v, but %q", patience, state)
}

// findInit returns the child of systemd-nspawn that is process 1 of a pid namespace, or 0 if there
// is none yet.
func (c *container) findInit() int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.nspawn.Process.Pid))
	for _, file := range files {
		children, _ := os.ReadFile(file)
		for _, child := range strings.Fields(string(children)) {
			status, _ := os.ReadFile("/proc/" + child + "/status")
			if bytes.Contains(status, []byte("\t1\nNSpgid:")) {
				pid, _ := strconv.Atoi(child)
				return pid
			}
		}
	}
	return 0
}

// halt powers the container off and removes its control groups.
func (c *container) halt() {
	if c.init != 0 {
		syscall.Kill(c.init, syscall.Signal(34+4)) // SIGRTMIN+4: power off, systemd(1)
	}
	off := time.AfterFunc(patience, func() { c.nspawn.Process.Kill() })
	c.nspawn.Wait()
	off.Stop()
	var groups []string
	filepath.WalkDir(c.cgroup, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	for _, group := range slices.Backward(groups) { // children first
		os.Remove(group)
	}
}

// command returns a command to run in the container.
func (c *container) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(c.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"}, args...)...)
}

func (c *container) try(args ...string) (string, error) {
	out, err := c.command(args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run runs a command in the container, which must succeed, and returns what it prints.
func (c *container) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.try(args...)
	if err != nil {
		journal, _ := c.try("journalctl", "--no-pager", "-n", "30")
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, journal)
	}
	return out
}

// path returns the path outside of the container of a file in it.
func (c *container) path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(c.init), "root", name)
}

// copyIn copies a file into the container, and renames it to its name as an upgrade would.
func (c *container) copyIn(from, to string, mode os.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(c.path(to+".new"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close(), os.Rename(c.path(to+".new"), c.path(to)))
}
