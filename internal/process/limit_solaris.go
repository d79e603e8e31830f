//go:build illumos || solaris

package process

// limitProcesses does not exist here: getrlimit(2) fails, as if there were no limit.
const limitProcesses = -1
