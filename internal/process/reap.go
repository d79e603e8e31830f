package process

import "golang.org/x/sys/unix"

// Reap reaps a child that has died and returns its pid and raw wait status (exit code × 256 +
// signal + 128 for a core dump). ok is false if there is none. It never waits.
func Reap() (pid, status int, ok bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return 0, 0, false
		}
		return pid, int(ws), true
	}
}
