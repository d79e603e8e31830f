//go:build !illumos && !solaris

package process

import "golang.org/x/sys/unix"

const limitProcesses = unix.RLIMIT_NPROC
